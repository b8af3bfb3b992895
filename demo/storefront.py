"""The shop behind nginx: an ordinary backend that renders what the Experiment-Assignments header tells it.

Pages are pure functions of their path and their variants, and carry in `data-` attributes what they were rendered as:
whoever receives one can tell whether it is the right one. Runs as a process of its own, `storefront.py PORT`, and
ends when its standard input does, so that it never outlives the demo.
"""
import asyncio
import hashlib
import sys

NONE = "none"  # stamped where an experiment is not enrolled: the page as it is
DELIVERY_GAP = "<!--delivery-note-->"  # nginx fills it in after its cache lookup
MAX_AGE_S = 20

PRODUCTS = {
    "lamp": ("Ada desk lamp", 79, "A quiet light for long evenings. Oak foot, linen shade, dims to a candle."),
    "chair": ("Grace reading chair", 349, "Deep seat, high back, and an arm wide enough for a cup of tea."),
    "rug": ("Emmy wool rug", 189, "Hand-woven from undyed wool in the colours of four kinds of sheep."),
}
BUTTON_COLOURS = {NONE: "#3d5a80", "control": "#3d5a80", "green": "#2a9d5c", "orange": "#ee7b30"}
HERO_COLOURS = {NONE: ("#cfe8f7", "#f9d65c"), "control": ("#cfe8f7", "#f9d65c"), "evening": ("#31356e", "#f4f1de")}
DRAWINGS = {
    "lamp": '<path d="M150 60h60l30 70H120z" fill="#e8dcc4"/><path d="M176 130h8v80h36v9h-80v-9h36z" fill="#8a6240"/>',
    "chair": '<path d="M130 60h90v90h20v20h-10v50h-10v-50h-90v50h-10V60z" fill="#a65b3f"/>',
    "rug": '<path d="M90 150h180l40 70H50z" fill="#d8c9ae"/><path d="M110 165h140l20 40H90z" fill="#9c8465"/>',
}
STYLE = """
  body { margin: 0; font: 17px/1.55 Georgia, serif; color: #333; background: #faf8f4; }
  header { padding: 1.1rem 2rem; background: #fff; border-bottom: 1px solid #e7e1d6; }
  header a { color: inherit; text-decoration: none; font-size: 1.4rem; letter-spacing: .06em; }
  main { max-width: 54rem; margin: 2rem auto; padding: 0 2rem; display: grid; gap: 2rem;
         grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
  svg { width: 100%; border-radius: 10px; }
  .card { background: #fff; border-radius: 12px; padding: 1rem 1.2rem; color: inherit; text-decoration: none;
          box-shadow: 0 2px 10px #0001; }
  .buy { display: inline-block; padding: .8rem 2.2rem; border-radius: 8px; color: #fff; text-decoration: none; }
  .note { color: #6b6b6b; } .stamp { font: 12px monospace; color: #999; text-align: center; }
"""


def assignments(header):
    """Variants by experiment from an RFC 9651 dictionary of tokens; parameters (epoch, reason) are dropped."""
    members = (member.split(";")[0].strip() for member in header.split(","))
    return dict(member.split("=", 1) for member in members if "=" in member)


def document(path, title, main, variants):
    """One whole page. `variants`: what it was rendered as, in its stamp and in its data attributes."""
    stamp = " ".join(f'data-{experiment}="{variant}"' for experiment, variant in variants.items())
    plain = stamp.replace("data-", "").replace('"', "")
    return (f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title} · Oak &amp; Linen</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
            f'<body data-page="{path}" {stamp}>\n<header><a href="/">Oak &amp; Linen</a></header>\n'
            f'<main>{main}</main>\n<p class="stamp">rendered: {path} {plain}</p>\n</body>\n</html>\n')


def drawing(slug, hero):
    sky, sun = HERO_COLOURS[hero]
    return (f'<svg viewBox="0 0 360 250" role="img" aria-label="{PRODUCTS[slug][0]}"><rect width="360" height="250" '
            f'fill="{sky}"/><circle cx="300" cy="52" r="24" fill="{sun}"/>{DRAWINGS[slug]}</svg>')


def home():
    cards = "".join(f'<a class="card" href="/product/{slug}">{drawing(slug, NONE)}<h3>{name}</h3>from € {price}</a>'
                    for slug, (name, price, _) in PRODUCTS.items())
    return document("/", "Things for quiet rooms", DELIVERY_GAP + cards, {})


def product(slug, button, hero):
    name, price, text = PRODUCTS[slug]
    main = (f'<div>{drawing(slug, hero)}</div><div><h1>{name}</h1><p>{text}</p><h2>€ {price}</h2>{DELIVERY_GAP}'
            f'<a class="buy" style="background:{BUTTON_COLOURS[button]}" href="/thanks">Buy now</a></div>')
    return document(f"/product/{slug}", name, main, {"checkout-button": button, "hero-image": hero})


def thanks(button, hero):
    main = ('<div class="card"><h1>Thank you</h1><p>Your order is on its way.</p>'
            f'<p><a class="buy" style="background:{BUTTON_COLOURS[button]}" href="/">Back to the shop</a></p></div>')
    return document("/thanks", "Thank you", main, {"checkout-button": button, "hero-image": hero})


def render(path, variants):
    """The page of a path for these variants, or None where there is no such page or no such variant."""
    button = variants.get("checkout-button", NONE)
    hero = variants.get("hero-image", NONE)
    if button not in BUTTON_COLOURS or hero not in HERO_COLOURS:
        return None
    if path == "/":
        return home()
    if path == "/thanks":
        return thanks(button, hero)
    folder, _, slug = path.rpartition("/")
    return product(slug, button, hero) if folder == "/product" and slug in PRODUCTS else None


def response(head):
    """The whole HTTP answer to one request head."""
    request_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    path = request_line.split(" ")[1].partition("?")[0]
    page = render(path, assignments(headers.get("experiment-assignments", "")))
    if page is None:
        return b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nnot found\n"
    body = page.encode()
    storage = "no-store" if path == "/thanks" else f"max-age={MAX_AGE_S}"
    return (f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
            f"Cache-Control: {storage}\r\nETag: \"{hashlib.sha256(body).hexdigest()[:16]}\"\r\n\r\n").encode() + body


async def serve_connection(reader, writer):
    try:
        while True:
            writer.write(response(await reader.readuntil(b"\r\n\r\n")))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # nginx closed it
    finally:
        writer.close()


async def main(port):
    server = await asyncio.start_server(serve_connection, "127.0.0.1", port)
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
