// Before the first paint: the theme that was chosen here, if one was. Not a module, so that nothing flashes.
(() => {
  try {
    const chosen = localStorage.getItem("actor-scheduler-theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage is off: the system's theme it is.
  }
})();
