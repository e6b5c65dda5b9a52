"""Reports as one HTML file that opens offline: templates from `templates/`, everything escaped, pictures embedded.

Model output, captions and file names are untrusted, so autoescaping is on and no template marks a value as safe, except
SVG that matplotlib drew from our own numbers.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

DISCLAIMER = "Research use only: not a medical device, not for diagnosis or treatment."


def render_page(template: str, **values: Any) -> str:
    """Render `templates/<template>`, which extends `page.html.j2`. An undefined name in it is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("llavamed_cli", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(disclaimer=DISCLAIMER, **values)


def data_uri(picture: Image, longest_side: int = 320) -> str:
    """A picture as a JPEG `data:` address, scaled down to `longest_side` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((longest_side, longest_side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
