// The address bar holds the view, and a button copies it.
if (!window.holdsView) {
  window.holdsView = true;

  // A view that changes would be a step back each time, and the page would go forward again at once: only another
  // page is a step.
  const push = history.pushState.bind(history);
  history.pushState = (state, title, url) => {
    const samePage = new URL(url, location.href).pathname === location.pathname;
    samePage ? history.replaceState(state, title, url) : push(state, title, url);
  };

  const copy = async (text) => {
    // Browsers keep their clipboard for pages of this machine and of secure servers; elsewhere the old way works.
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    await copy(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy the link"; }, 2000);
  });
}
