// Copies the link of a view at the press of the button beside it.
if (!window.copiesLinks) {
  window.copiesLinks = true;

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
