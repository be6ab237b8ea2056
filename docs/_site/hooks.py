"""What the site adds to the pages: reference made from the code, and links into the repository.

MkDocs calls these functions while it builds; mkdocs.yml names this file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import commands
import errors
import fields
import presets

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

GENERATED = {
    "<!-- generated: errors -->": errors.markdown,
    "<!-- generated: fields -->": fields.markdown,
    "<!-- generated: commands -->": commands.markdown,
    "<!-- generated: presets -->": presets.markdown,
}
"""What a page writes -> what replaces it."""
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)#\s:]+)(?P<anchor>#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fills in what is generated, and leads links to other files of the repository there.

    Args:
        markdown: The page's text.
        page: The page.
        config: The site's configuration.
        files: All pages and pictures of the site.

    Returns:
        The text that MkDocs renders.
    """
    folder = Path(page.file.abs_src_path).parent
    docs = Path(config.docs_dir)

    def lead(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / match["target"]))
        if docs in target.parents:
            return match[0]
        # Without an address of the repository, a reader of the site has only the file's name.
        if not config.repo_url:
            return match["text"]
        place = target.relative_to(docs.parent).as_posix()
        return f"[{match['text']}]({config.repo_url.rstrip('/')}/blob/main/{place})"

    text = LINK.sub(lead, markdown)
    for mark, made in GENERATED.items():
        if mark in text:
            text = text.replace(mark, made())
    return text
