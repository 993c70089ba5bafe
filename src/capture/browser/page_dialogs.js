// Nobody sits at this Chrome: a dialog stops the page until it is answered, and is recorded. As BINDING of call_sync.js
// this runs in each document before the page's own code. A window must also stay as large as the screen.
(() => {
  const replace = (name, value) =>
    Object.defineProperty(globalThis, name, { value, writable: true, enumerable: true, configurable: true });
  replace("alert", () => {});
  replace("confirm", () => false);
  replace("prompt", () => null);
  for (const name of ["moveBy", "moveTo", "resizeBy", "resizeTo"]) replace(name, () => {});
})();
