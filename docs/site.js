// Names and reachability that Material's own parts lack, for screen readers and keyboards.
document$.subscribe(() =>
  setTimeout(() => {
    document.querySelector(".md-search")?.setAttribute("aria-label", "Search")
    for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0
  }, 0)
)
