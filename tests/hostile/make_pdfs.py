"""PDFs that are made to exhaust their reader: small files, large demands, no end.

    python -m tests.hostile.make_pdfs FOLDER

`BOMBS` is name → function that returns the file. Each is a class of bug that some reader had; what
is asked of docqa is a bounded time, a bounded memory, a sentence, and the other files done.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<<%s>>%s>>"
CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
PAGES = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
FONT = b"/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"
TEXT = b"BT /F 9 Tf 9 50 Td (Some text) Tj ET"


def stream(body: bytes, entries: bytes = b"") -> bytes:
    """Return a stream object with this body."""
    return b"<</Length %d%s>>stream\n%s\nendstream" % (len(body), entries, body)


def packed(body: bytes, n_times: int = 1, entries: bytes = b"") -> bytes:
    """Return a stream object whose body is packed `n_times` over."""
    for _ in range(n_times):
        body = zlib.compress(body, 9)
    return stream(body, entries + b"/Filter[%s]" % (b"/FlateDecode" * n_times))


def pdf(objects: Sequence[bytes], trailer: bytes = b"", size: int | None = None) -> bytes:
    """Return a file of these objects, numbered from 1."""
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    n = size if size is not None else len(objects) + 1
    out += b"trailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF" % (n, trailer, start)
    return bytes(out)


def one_page(content: bytes, resources: bytes = FONT, page: bytes = b"", *more: bytes) -> bytes:
    """Return a file of one page; `content` is its content stream, `more` are objects from 5 on."""
    return pdf([CATALOG, PAGES, PAGE % (resources, page), content, *more])


def form(body: bytes, resources: bytes) -> bytes:
    """Return a form XObject."""
    return stream(body, b"/Type/XObject/Subtype/Form/BBox[0 0 99 99]/Resources<<%s>>" % resources)


# -- what is drawn again and again ----------------------------------------------------------------


def nested_forms() -> bytes:
    """Twelve forms, each draws the next one ten times: 10^12 rectangles."""
    forms = [
        form(b"/X Do " * 10 if i < 11 else b"0 0 1 1 re f ", b"/XObject<</X %d 0 R>>" % (6 + i))
        for i in range(12)
    ]
    return one_page(stream(b"/X Do"), b"/XObject<</X 5 0 R>>", b"", *forms, b"null")


def nested_text() -> bytes:
    """The same with text: 10^9 words."""
    forms = [
        form(b"/X Do " * 10 if i < 8 else TEXT, FONT + b"/XObject<</X %d 0 R>>" % (6 + i))
        for i in range(9)
    ]
    return one_page(stream(b"/X Do"), b"/XObject<</X 5 0 R>>", b"", *forms, b"null")


def form_in_itself() -> bytes:
    """A form that draws itself twice."""
    again = form(b"/X Do /X Do " + TEXT, FONT + b"/XObject<</X 5 0 R>>")
    return one_page(stream(b"/X Do"), b"/XObject<</X 5 0 R>>", b"", again)


def glyph_in_itself() -> bytes:
    """A Type 3 font whose letter is written in the same font."""
    font = (
        b"<</Type/Font/Subtype/Type3/FontBBox[0 0 9 9]/FontMatrix[1 0 0 1 0 0]/FirstChar 97"
        b"/LastChar 97/Widths[9]/CharProcs<</a 6 0 R>>/Encoding<</Differences[97/a]>>"
        b"/Resources<</Font<</F 5 0 R>>>>>>"
    )
    glyph = stream(b"9 0 d0 BT /F 9 Tf (aaaaaaaa) Tj ET")
    return one_page(stream(b"BT /F 9 Tf (aaaa) Tj ET"), b"/Font<</F 5 0 R>>", b"", font, glyph)


def pattern_in_itself() -> bytes:
    """A tiling pattern painted with itself, its tiles a millionth of a point wide."""
    pattern = stream(
        b"/Pattern cs /P scn 0 0 99 99 re f",
        b"/Type/Pattern/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 9 9]/XStep 0.000001"
        b"/YStep 0.000001/Resources<</Pattern<</P 5 0 R>>>>",
    )
    page = stream(b"/Pattern cs /P scn 0 0 99 99 re f")
    return one_page(page, b"/Pattern<</P 5 0 R>>", b"", pattern)


# -- what unpacks ---------------------------------------------------------------------------------


def flate_content() -> bytes:
    """A page of 400 MB of operators, packed twice, to a few kilobytes."""
    return one_page(packed(b"q 0 0 1 1 re f Q\n" * 24_000_000, 2))


def flate_text() -> bytes:
    """A page of 12 million letters."""
    body = b"BT /F 0.001 Tf 9 9 Td (" + b"a" * 12_000_000 + b") Tj ET"
    return one_page(packed(body, 2))


def flate_words() -> bytes:
    """A page of a million words, each placed by itself."""
    return one_page(packed(b"BT /F 1 Tf 1 0 0 1 9 9 Tm (word) Tj ET\n" * 1_000_000))


def filters_without_end() -> bytes:
    """A stream that says that it is packed 50,000 times over."""
    return one_page(stream(zlib.compress(TEXT), b"/Filter[%s]" % (b"/FlateDecode" * 50_000)))


def huge_image() -> bytes:
    """An image of 10^10 pixels with the data of one line."""
    image = packed(
        b"\0" * 100_000,
        1,
        b"/Type/XObject/Subtype/Image/Width 100000/Height 100000/BitsPerComponent 8"
        b"/ColorSpace/DeviceRGB",
    )
    return one_page(stream(b"99 0 0 99 0 0 cm /X Do"), b"/XObject<</X 5 0 R>>", b"", image)


def predictor() -> bytes:
    """A content stream with predictor parameters beyond all integers."""
    entries = (
        b"/Filter/FlateDecode/DecodeParms<</Predictor 12/Columns 2147483647/Colors 2147483647>>"
    )
    return one_page(stream(zlib.compress(TEXT * 99), entries))


def function_table() -> bytes:
    """A shading with a sampled function of 10^15 samples."""
    function = stream(
        b"\0" * 64,
        b"/FunctionType 0/Domain[0 1 0 1 0 1]/Range[0 1 0 1 0 1]/Size[100000 100000 100000]"
        b"/BitsPerSample 32",
    )
    shading = b"<</ShadingType 1/ColorSpace/DeviceRGB/Function 6 0 R>>"
    return one_page(stream(b"/S sh"), b"/Shading<</S 5 0 R>>", b"", shading, function)


def unicode_map() -> bytes:
    """A font whose letters stand for 4,000 characters each."""
    ranges = b"".join(b"<%02x> <%02x> <%s>\n" % (i, i, b"0041" * 4000) for i in range(97, 107))
    table = packed(b"begincmap 10 beginbfrange\n%sendbfrange endcmap" % ranges)
    font = b"/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 5 0 R>>>>"
    text = b"BT /F 1 Tf 9 9 Td (" + b"abcdefghij" * 40_000 + b") Tj ET"
    return one_page(packed(text), font, b"", table)


# -- what is said to be large ---------------------------------------------------------------------


def huge_box() -> bytes:
    """A page as wide as the sky."""
    box = b"/MediaBox[-1e30 -1e30 1e30 1e30]/UserUnit 1e20"
    return pdf([CATALOG, PAGES, PAGE.replace(b"/MediaBox[0 0 99 99]", box) % (FONT, b""),
                stream(TEXT)])  # fmt: skip


def huge_scan() -> bytes:
    """A page of 200 inches with nothing but a picture: what OCR would draw."""
    image = packed(
        b"\0" * 10_000,
        1,
        b"/Type/XObject/Subtype/Image/Width 100/Height 100/BitsPerComponent 8"
        b"/ColorSpace/DeviceGray",
    )
    page = PAGE.replace(b"99 99", b"14400 14400") % (b"/XObject<</X 5 0 R>>", b"")
    return pdf([CATALOG, PAGES, page, stream(b"14400 0 0 14400 0 0 cm /X Do"), image])


def count_lies() -> bytes:
    """A page tree that says that it holds 2^31 pages."""
    pages = PAGES.replace(b"Count 1", b"Count 2147483647")
    return pdf([CATALOG, pages, PAGE % (FONT, b""), stream(TEXT)])


def same_page() -> bytes:
    """One page, 300,000 times."""
    pages = b"<</Type/Pages/Kids[%s]/Count 300000>>" % (b"3 0 R " * 300_000)
    return pdf([CATALOG, pages, PAGE % (FONT, b""), stream(TEXT)])


def huge_size() -> bytes:
    """A trailer that announces 2^31 objects, and a table of 99 million."""
    whole = pdf([CATALOG, PAGES, PAGE % (FONT, b""), stream(TEXT)], size=2_147_483_647)
    return whole.replace(b"xref\n0 5\n", b"xref\n0 99999999\n")


def annotations() -> bytes:
    """A page with two million annotations."""
    note = b"<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/Contents(a note)>>"
    return one_page(stream(TEXT), FONT, b"/Annots[%s]" % (b"5 0 R " * 2_000_000), note)


def links() -> bytes:
    """A page with 300,000 links, each an object."""
    link = b"<</Type/Annot/Subtype/Link/Rect[0 0 9 9]/A<</S/URI/URI(http://example.invalid)>>>>"
    refs = b"".join(b"%d 0 R " % (5 + i) for i in range(300_000))
    return one_page(stream(TEXT), FONT, b"/Annots[%s]" % refs, *([link] * 300_000))


def bookmarks() -> bytes:
    """An outline of 300,000 entries."""
    n = 300_000
    entries = [
        b"<</Title(Entry)/Parent 5 0 R/Dest[3 0 R/Fit]%s>>"
        % (b"/Next %d 0 R" % (7 + i) if i < n - 1 else b"")
        for i in range(n)
    ]
    outline = b"<</Type/Outlines/First 6 0 R/Last %d 0 R/Count %d>>" % (5 + n, n)
    root = b"<</Type/Catalog/Pages 2 0 R/Outlines 5 0 R>>"
    return pdf([root, PAGES, PAGE % (FONT, b""), stream(TEXT), outline, *entries])


def title() -> bytes:
    """A title of five million characters."""
    objects = [CATALOG, PAGES, PAGE % (FONT, b""), stream(TEXT)]
    return pdf([*objects, b"<</Title(%s)>>" % (b"T" * 5_000_000)], b"/Info 5 0 R")


# -- what leads back to itself --------------------------------------------------------------------


def pages_in_themselves() -> bytes:
    """A page tree that is its own child."""
    pages = b"<</Type/Pages/Kids[3 0 R 2 0 R]/Count 2/Parent 2 0 R>>"
    return pdf([CATALOG, pages, PAGE % (FONT, b""), stream(TEXT)])


def deep_pages() -> bytes:
    """A page tree 50,000 levels deep."""
    n = 50_000
    nodes = [
        b"<</Type/Pages/Kids[%d 0 R]/Count 1/Parent %d 0 R>>" % (6 + i, 4 + i if i else 2)
        for i in range(n)
    ]
    page = PAGE.replace(b"2 0 R/MediaBox", b"%d 0 R/MediaBox" % (4 + n)) % (FONT, b"")
    pages = b"<</Type/Pages/Kids[5 0 R]/Count 1>>"
    return pdf([CATALOG, pages, b"null", stream(TEXT), *nodes, page])


def parent_of_itself() -> bytes:
    """A page that inherits all it lacks from itself."""
    page = b"<</Type/Page/Parent 3 0 R/Contents 4 0 R>>"
    return pdf([CATALOG, PAGES, page, stream(TEXT)])


def outline_of_itself() -> bytes:
    """Bookmarks that are their own first child and their own next."""
    root = b"<</Type/Catalog/Pages 2 0 R/Outlines 5 0 R>>"
    entry = b"<</Title(Again)/First 6 0 R/Next 6 0 R/Last 6 0 R/Parent 6 0 R/Dest[3 0 R/Fit]>>"
    outline = b"<</Type/Outlines/First 6 0 R/Last 6 0 R/Count 9>>"
    return pdf([root, PAGES, PAGE % (FONT, b""), stream(TEXT), outline, entry])


def labels_of_themselves() -> bytes:
    """A tree of page labels and one of names that are their own children."""
    root = b"<</Type/Catalog/Pages 2 0 R/PageLabels 5 0 R/Names<</Dests 5 0 R>>>>"
    tree = b"<</Kids[5 0 R 5 0 R]/Limits[(a)(z)]>>"
    return pdf([root, PAGES, PAGE % (FONT, b""), stream(TEXT), tree])


def table_before_itself() -> bytes:
    """A cross-reference table whose predecessor is itself."""
    whole = pdf([CATALOG, PAGES, PAGE % (FONT, b""), stream(TEXT)])
    start = whole.rindex(b"xref\n0 5")
    return whole.replace(b"/Root 1 0 R", b"/Root 1 0 R/Prev %d" % start)


def reference_of_itself() -> bytes:
    """Objects that are nothing but references in a circle, and a length that is one of them."""
    content = b"<</Length 5 0 R>>stream\n%s\nendstream" % TEXT
    return one_page(content, FONT, b"/Rotate 5 0 R/Annots 6 0 R", b"6 0 R", b"5 0 R")


def object_stream_in_itself() -> bytes:
    """An object stream that holds itself, extends itself and counts to 10^8."""
    body = b"5 0 6 9 <</A 1>> 5 0 R"
    objects = stream(body, b"/Type/ObjStm/N 100000000/First 8/Extends 5 0 R")
    return one_page(stream(TEXT), FONT, b"/Annots 6 0 R", objects)


# -- what is deep ---------------------------------------------------------------------------------


def deep_array() -> bytes:
    """An array a million levels deep."""
    return one_page(stream(TEXT), FONT, b"/Annots" + b"[" * 1_000_000 + b"]" * 1_000_000)


def deep_dictionary() -> bytes:
    """A dictionary 300,000 levels deep, in the content stream too."""
    deep = b"<</A" * 300_000 + b" 1" + b">>" * 300_000
    return one_page(stream(b"/T " + deep + b" BDC " + TEXT + b" EMC"), FONT, b"/P" + deep)


def deep_states() -> bytes:
    """A graphics state saved three million times, and marked content opened as often."""
    return one_page(packed(b"q /T BMC " * 3_000_000 + TEXT))


BOMBS: dict[str, Callable[[], bytes]] = {
    make.__name__: make
    for make in (
        *(nested_forms, nested_text, form_in_itself, glyph_in_itself, pattern_in_itself),
        *(flate_content, flate_text, flate_words, filters_without_end, huge_image, predictor),
        *(function_table, unicode_map, huge_box, huge_scan, count_lies, same_page, huge_size),
        *(annotations, links, bookmarks, title, pages_in_themselves, deep_pages),
        *(parent_of_itself, outline_of_itself, labels_of_themselves, table_before_itself),
        *(reference_of_itself, object_stream_in_itself, deep_array, deep_dictionary, deep_states),
    )
}


def main(folder: Path) -> None:
    """Write every bomb into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in BOMBS.items():
        (folder / f"{name}.pdf").write_bytes(make())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
