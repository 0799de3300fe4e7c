// Runs before the first paint, so that a stored theme does not flash: a classic script, not a module.
document.documentElement.dataset.theme = localStorage.getItem("devicestat.theme") ?? "system";
