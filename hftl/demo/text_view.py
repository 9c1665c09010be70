"""A text with its words marked by how much they speak for or against a label, as HTML."""

from html import escape

from hftl.demo.attribution import TextAttribution
from hftl.report.visible import one_line, visible


# Blue for, orange against: apart for the colour-blind. Both are mid-tones at an opacity of at most 0.4, so that the
# page's own text colour stays legible on them, dark on light as light on dark. A page may set the two variables.
FOR, AGAINST, OPACITY = "37 99 235", "234 108 10", 0.4
_STYLE = f"""<style>
.hftl-why {{ line-height: 2; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }}
.hftl-why span {{ border-radius: 3px; text-underline-offset: 3px; text-decoration-skip-ink: none; }}
.hftl-why .for {{ --c: var(--hftl-for, {FOR}); text-decoration-style: solid; }}
.hftl-why .against {{ --c: var(--hftl-against, {AGAINST}); text-decoration-style: dashed; }}
.hftl-why .for, .hftl-why .against {{
  background: rgb(var(--c) / calc(var(--s) * {OPACITY})); text-decoration-line: underline;
  text-decoration-color: rgb(var(--c)); text-decoration-thickness: calc(1px + 3px * var(--s));
}}
.hftl-why .unread {{ opacity: 0.65; font-style: italic; }}
.hftl-why-note {{ margin: 0 0 0.5em; font-size: 0.875em; }}
.hftl-why-note span {{ padding: 0 0.25em; }}
</style>"""
_LEGEND = '<span class="for" style="--s:0.7">speaks for it</span> <span class="against" style="--s:0.7">speaks against it</span>'


def text_html(attribution: TextAttribution) -> str:
    """Return the text with the score of every word that counts as colour, as weight of an underline (dashed: against) and in its title.

    All of the text is escaped, and characters that nobody can see are spelt out. What the model does not read is set
    in grey italics, and a sentence says so. There is no script in it.
    """
    note = f"Why <bdi>{escape(one_line(attribution.label))}</bdi>: {_LEGEND}"
    if attribution.truncated:
        note += " The model reads only part of this text; what is in italics counts for nothing."
    pieces: list[str] = []
    at = 0
    first, last = attribution.read
    for piece, score in attribution.spans:
        is_read = first <= at < last
        at += len(piece)
        pieces.append(_piece(piece, score, attribution.scale, is_read))
    text = "".join(pieces)
    return f'{_STYLE}<p class="hftl-why hftl-why-note">{note}</p><div class="hftl-why" dir="auto">{text}</div>'


def _piece(piece: str, score: float, scale: float, is_read: bool) -> str:
    text = escape(visible(piece))
    if not is_read:
        return f'<span class="unread" title="not read by the model">{text}</span>'
    if abs(score) < 0.05:  # of no account beside the strongest word
        return text
    side = "for" if score > 0 else "against"
    title = f"{score:+.2f} ({score * scale:+.2f} log-odds)"
    return f'<span class="{side}" style="--s:{abs(score):.2f}" title="{title}">{text}</span>'
