// Nobody sits at this Chrome: a dialog would stop the page until it is answered, and be recorded. Runs in every document
// before the page's own code. The window must also stay as large as the screen.
(() => {
  const replace = (name, value) =>
    Object.defineProperty(globalThis, name, { value, writable: true, enumerable: true, configurable: true });
  replace("alert", () => {});
  replace("confirm", () => false);
  replace("prompt", () => null);
  // A page's code before it is left runs, and cannot ask whether the page may be left: Chrome would draw that question
  // into the page. An event ignores what asks, and what a handler returns would ask too, so it is called from here.
  Object.defineProperty(BeforeUnloadEvent.prototype, "preventDefault", { value() {} });
  Object.defineProperty(BeforeUnloadEvent.prototype, "returnValue", { get: () => "", set() {} });
  addEventListener("beforeunload", (event) => {
    const handler = globalThis.onbeforeunload;
    if (!handler) return;
    globalThis.onbeforeunload = null;
    try {
      handler.call(globalThis, event);
    } finally {
      globalThis.onbeforeunload = handler;
    }
  }, true);
  for (const name of ["moveBy", "moveTo", "resizeBy", "resizeTo"]) replace(name, () => {});
})();
