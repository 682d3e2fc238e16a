from hypothesis import given
from hypothesis import strategies as st

from docqa.narrow import MAX_CHARS, narrowed, rarity
from docqa.types import BlockKind
from tests.docqa.make import chunk

ROUTINE = [
    f"2026-03-01T10:00:{i % 60:02d}Z INFO [gateway] request {i} served in 5 ms" for i in range(60)
]


def log(lines, line=101, **fields):
    return chunk("\n".join(lines), line=line, kind=BlockKind.RECORD, **fields)


def only(whole, question, **options):
    (part,) = narrowed(whole, question, **options)
    return part


def test_the_lines_that_the_question_is_about_are_kept_with_their_numbers():
    lines = list(ROUTINE)
    lines[40] = "2026-03-01T10:00:40Z ERROR [billing] invoice run aborted: disk quota exceeded"
    part = only(log(lines, start=5000), "Why was the invoice run aborted?")
    assert lines[40] in part.text and len(part.text) <= MAX_CHARS
    offset = part.text.index(lines[40])
    assert part.locate(offset, offset + 5).first == 141
    whole = "\n".join(lines)
    assert whole[part.span.start - 5000 : part.span.end - 5000] == part.text


def test_errors_come_before_routine_where_no_word_matches():
    lines = list(ROUTINE)
    lines[50] = "2026-03-01T10:00:50Z FATAL [inventory] worker died"
    assert "FATAL" in only(log(lines), "What went wrong?").text


def test_prose_and_short_logs_are_left_alone():
    prose = chunk("word " * 500)
    assert only(prose, "word") is prose
    short = log(ROUTINE[:3])
    assert only(short, "request") is short


@given(st.lists(st.text(max_size=200), min_size=1, max_size=40), st.text(max_size=60))
def test_a_part_is_a_part(lines, question):
    lines = [line.replace("\n", " ") for line in lines]
    whole = log(lines)
    part = only(whole, question, max_chars=300)
    start = part.span.start
    assert whole.text[start : part.span.end] == part.text
    assert part.span.locator.first == 101 + whole.text.count("\n", 0, start)
    assert len(part.text) <= max(300, 0) or part is whole


def test_a_line_with_the_kind_of_value_asked_for_is_kept():
    lines = list(ROUTINE)
    lines[3] = "2026-03-01T10:00:03Z INFO [farm] Starting Farm v3.0.7 with PID 1"
    lines[50] = "2026-03-01T10:00:50Z INFO [farm] Started Farm in 13.531 seconds"
    assert "13.531" in only(log(lines), "How long did Farm need to start?").text


def test_a_long_record_is_cut_between_its_fields():
    fields = [f'"field{i}":"value number {i}"' for i in range(200)]
    fields[120] = '"latitude":"46.908706667"'
    record = "{" + ",".join(fields) + "}"
    part = only(log([record]), "which latitude was logged?")
    assert '"latitude":"46.908706667"' in part.text and len(part.text) <= MAX_CHARS
    assert record[part.span.start : part.span.end] == part.text


def test_several_parts_do_not_overlap_and_the_best_is_first():
    lines = list(ROUTINE)
    lines[5] = "2026-03-01T10:00:05Z INFO [cleaner] compaction of topic orders resumed"
    lines[50] = "2026-03-01T10:00:50Z INFO [cleaner] compaction resumed"
    first, second = narrowed(log(lines), "compaction of orders resumed", n_parts=2)
    assert lines[5] in first.text and lines[50] in second.text
    assert first.span.end < second.span.start or second.span.end < first.span.start
    assert len(narrowed(log(lines), "compaction of orders resumed", n_parts=9)) == 2


def test_a_word_that_few_passages_have_outweighs_words_that_all_have():
    lines = list(ROUTINE)
    lines[7] = "2026-03-01T10:00:07Z INFO [server] broker 0 of the kafka server started"
    lines[52] = "\tzookeeper.connect = zookeeper1:2181"
    question = "kafka server broker 0 startup zookeeper.connect"
    everywhere = "INFO kafka server broker 0 startup"
    rare = rarity(question, ["\n".join(lines), *[everywhere] * 40])
    assert rare["zookeeper.connect"] > 0.8 and rare["kafka"] < 0.1
    assert lines[52] in only(log(lines), question, rare=rare).text
    assert lines[7] in only(log(lines), question).text
