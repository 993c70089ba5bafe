// Nobody sits at this Chrome: a dialog would stop the page until it is answered, and be recorded. Runs in every document
// before the page's own code. The window must also stay as large as the screen.
(() => {
  const replace = (name, value) =>
    Object.defineProperty(globalThis, name, { value, writable: true, enumerable: true, configurable: true });
  replace("alert", () => {});
  replace("confirm", () => false);
  replace("prompt", () => null);
  for (const name of ["moveBy", "moveTo", "resizeBy", "resizeTo"]) replace(name, () => {});
})();
