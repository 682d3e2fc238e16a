"""Which questions are answered by an exact scan of log lines, and what the scan looks for.

`scan_intent` is pure. It returns None for what has to be read (why, how, what caused), for
comparisons with numbers, for units of time and money, and where nothing is left to look for.
A query is a promise about the pattern, not about the answer: the caller scans only if the scope
holds logs, and takes the answer only if a line matches (or `is_explicit`: zero is an answer, too).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from docqa.scan_fields import FIELD_OF_NOUN
from docqa.scan_time import TimeRange, find_time_range


class Operation(StrEnum):
    """What is said about the matching records."""

    COUNT = "count"
    FIRST = "first"
    LAST = "last"
    WHEN = "when"
    LIST = "list"
    LONGEST = "longest"  # by the duration that the line states
    SHORTEST = "shortest"
    LARGEST = "largest"  # by the size
    SMALLEST = "smallest"
    TOP = "top"
    HISTOGRAM = "histogram"


SIZES = frozenset({Operation.LARGEST, Operation.SMALLEST})
EXTREMES = frozenset({Operation.LONGEST, Operation.SHORTEST}) | SIZES
ALL_LINES = frozenset({Operation.TOP, Operation.HISTOGRAM}) | EXTREMES
"""What may be asked of all lines; "how many" needs to say of what."""


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that has to occur. `words` are tried as a phrase before they are tried one by one.

    `is_exact`: quoted or an identifier, taken as it stands but for case. Otherwise the endings of
    English plurals and verbs may differ.
    """

    words: tuple[str, ...]
    is_exact: bool = False
    is_status: bool = False  # an HTTP status: the number counts only where a status stands
    is_quoted: bool = False

    @property
    def text(self) -> str:
        """The words as the question has them."""
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class ScanQuery:
    """What to scan for: records with all `terms`, one of `levels`, inside `when`."""

    question: str
    operation: Operation
    terms: tuple[Term, ...] = ()
    levels: frozenset[str] = frozenset()
    level_word: str = ""  # as the question has it: "errors"
    when: TimeRange | None = None
    field: str = ""  # of TOP: a key of scan_fields.FIELDS; of LARGEST: what is large
    bucket: str = ""  # of HISTOGRAM: minute, hour, day
    n_wanted: int = 10  # of LIST and TOP
    files: tuple[str, ...] = ()  # file names in the question
    without: tuple[str, ...] = ()  # words that a matching line may not have
    is_explicit: bool = False  # nothing found is an answer too
    names_log: bool = False  # then one plain word is enough to look for


_READING = re.compile(
    r"^\W*(?:why|explain|summari[sz]e|compare|describe)\b|\bwhat(?:'s| (?:caused?|made|led|"
    r"happened|does|do|did|should|could|would|kind|type|sort))\b"
    r"|\bhow often (?:may|must|should|can|do|does|to|is|are)\b|\buntil when\b"
    r"|\bwhen (?:is|are|do|does|will|should|must|may|can|to|it|the|a|an|you)\b"
    r"|\bhow (?:much|long|large|big|old|far|fast|"
    r"high|deep|heavy|do|does|did|can|could|should|to|come|is|are|was|were)\b|\bcaused?\b|\breason",
    re.I,
)
_GIVES_OUT = re.compile(r"\b(gives?|gave|hands?|handed|sends?|sent) (?:out|back)\b", re.I)
_CAUSED_MOST = re.compile(r"\b(?:caused?|triggered|generated)(?= (?:the )?most\b)", re.I)
_COMPARED = re.compile(
    r"\b(?:more|less|fewer|longer|greater|higher|lower|larger|smaller|slower|faster|older) than\b"
    r"|\b(?:at least|at most|exceed\w*|over|under|above|below) \d|[<>]=?\s*\d|\bpercent|%"
    r"|\baverage|\bmean\b|\bmedian|\bsum of|\btotal (?:time|duration|size|amount)",
    re.I,
)
_RELATIVE = re.compile(
    r"\b(?:today|yesterday|tonight|now|ago|(?:last|past|this|previous) "
    r"(?:\d+ )?(?:minutes?|hours?|days?|weeks?|months?|years?|night|time))\b",
    re.I,
)
_PROSE_NOUN = re.compile(
    r"\bhow many (?:\w+ )?(?:pages?|chapters?|sections?|tables?|figures?|employees?|people|"
    r"persons?|customers?|passengers?|patients?|euros?|dollars?|percent|days?|weeks?|months?|years?|hours?|"
    r"minutes?|seconds?|milliseconds?|ms|[kmgt]i?b|bytes?|words?|parties|shares?|points?)\b",
    re.I,
)
_PROSE_VERB = re.compile(
    r"\b(?:signed|born|founded|published|written|invented|elected|effective)\b", re.I
)

COUNT = re.compile(
    r"\bhow many(?: times)?\b|\bhow often\b"
    r"|(?:\bthe |\btotal |(?:^|[:,]|\s-)\W*)(?:total )?(?:number|count) of\b"
    r"|^\W*count\b(?: (?:of|the|all))*",
    re.I,
)
_FIRST = re.compile(r"\b(?:first|earliest|oldest|initial(?:ly)?)\b", re.I)
_LAST = re.compile(r"\b(?:last|latest|newest|most recent(?:ly)?|final(?:ly)?)\b", re.I)
_EXTREME = re.compile(
    r"\b(?:the )?(?:(?P<longest>longest|slowest)|(?P<shortest>shortest|fastest|quickest)"
    r"|(?:(?P<largest>largest|biggest)|smallest)(?= (?:\w+ )?(?P<of>response|request|reply|file|"
    r"transfer|download|upload|body|payload|object|message|packet|page|image)s?\b))"
    r"(?: (?:time|duration))?\b",
    re.I,
)
_HOW_LONG = re.compile(
    r"\b(?:how (?:long|large|big|many bytes)|in (?:bytes|[kmg]b|m?s|(?:milli)?seconds)"
    r"|(?:what|which)(?: (?:was|is|are|were))?|was|is|were|did|took|takes?|taken)\b",
    re.I,
)
_WHEN = re.compile(
    r"\bwhen\b|\b(?:at )?what time\b|\b(?:on )?(?:what|which) (?:day|date)\b|^\W*time of\b"
    r"|\bwhat (?:is|was) the (?:date|time|date and time) of\b"
    r"|\btimestamps? of\b",
    re.I,
)
_LIST = re.compile(
    r"^\W*(?:please |can you |could you )?(?:list|show|find|give|print|display|get)\b(?: me)?"
    r"|\ball (?:occurrences|lines|entries|records|events|messages)\b|\bwhich lines\b",
    re.I,
)
_BUCKET = re.compile(
    r"\b(?:per|by|each|every|which|what|busiest|worst|peak)\s+(?:single )?"
    r"(minute|hour|day|date)s?\b"
    r"|\b(hourly|daily)\b",
    re.I,
)
_PEAK = re.compile(r"\b(?:busiest|worst|peak)\b", re.I)
_PER = re.compile(r"(?:per|by|each|every|hourly|daily)\b", re.I)
LOG = re.compile(r"\b(?:sys)?log(?:s|file|files)?\b|_logs?\b", re.I)
_MOST = re.compile(
    r"\b(?:most(?: often| common| frequent)?|top(?: \d+)?|busiest|highest|commonest)\b", re.I
)
_NOUNS = "|".join(sorted((re.escape(n) for n in FIELD_OF_NOUN), key=len, reverse=True))
_TOP = re.compile(
    rf"\b(?P<ask>which|what(?: (?:is|was|are|were) the)?|from which|from what|top(?: \d+)?|"
    rf"most (?:common|frequent)|(?:(?:how many|number of) )?(?:different|unique|distinct))\s+"
    rf"(?:\d+ )?(?:(?:of )?the )?(?:(?:single|web|external|internal) )?(?P<noun>{_NOUNS})\b",
    re.I,
)
_PER_FIELD = re.compile(rf"\b(?:per|by|for each|for every) (?P<noun>{_NOUNS})\b", re.I)
_WHO = re.compile(r"\bwho\b", re.I)
_SHORT_WORDS = 6  # `timeouts per minute` is a question too
_NUMBER = re.compile(
    r"\b(?:last|latest|first|top) (?![45]\d\d\b(?! (?:lines|records|entries|messages|events)\b))"
    r"(\d{1,3})\b|^\W*(?:list|show)(?: me)?(?: the)? (\d{1,3})\b",
    re.I,
)
_STATUS = re.compile(
    r"\b(?:http )?(?:status )?(?:code )?(?P<a>[1-5]\d\d)s?(?: (?:responses?|errors?|status(?:es)?|"
    r"codes?|requests?|answers?|replies))+\b|\b(?:http|status)(?: code)? (?P<b>[1-5]\d\d)\b"
    r"|\b(?:http |status )?(?P<f>[45])xx\b(?: (?:responses?|errors?|status(?:es)?|codes?))*"
    r"|\b(?P<c>[45]\d\d)s\b(?! (?:time|wait|delay|pause|interval))"  # "how many 404s"
    r"|\((?:a |with )?(?P<e>[45]\d\d)s?\)"
    r"|(?:(?<=returned )|(?<=returning )|(?<=return )|(?<=got )|(?<=got a )|(?<=with )"
    r"|(?<=with a )|(?<=ended in )|(?<=ended in a )|(?<=first )|(?<=last )|(?<=latest ))"
    r"(?P<d>[1-5]\d\d)"
    r"(?=\W*$|[?.,;]| (?:in|on|from|for|by|at|during|between|after|before|since)\b)",
    re.I,
)
_WITHOUT = re.compile(
    r"\((?:but )?(?:not|no|without)\s+(?:an? |the |with |via )?([\w.@$/-]+)\)"
    r"|\b(?:excluding|except(?: for)?|other than)\s+(?:the )?([\w.@$/-]+)",
    re.I,
)
_FILE = re.compile(
    r"(?<![\w/])[\w./-]*\w\.(?:log|out|err|txt|jsonl?)(?:[.-]\d[\d-]*)?(?:\.gz)?(?!\w)"
    r"|(?<![\w/])[\w-]+_logs?\.\d+(?!\w)",
    re.I,
)
_QUOTED = re.compile(
    r"\"([^\"]{2,200})\"|“([^”]{2,200})”|‘([^’]{2,200})’|(?<!\w)'([^']{2,200})'(?!\w)|`([^`]{2,200})`"
)
_TOKEN = re.compile(r"[^\s\"“”‘’`,;!?()\[\]{}]+")
_IDENTIFIER = re.compile(r"[a-z][A-Z]|[A-Za-z]\d|\d[A-Za-z]|[_@/\\$#:]|\w[.-]\w|^\d+$|^[A-Z]{3,}$")

_LEVEL_WORDS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("error", "errors"), frozenset({"ERROR", "FATAL"})),
    **dict.fromkeys(("warning", "warnings", "warn", "warns"), frozenset({"WARN"})),
    **dict.fromkeys(("fatal", "fatals", "critical", "criticals"), frozenset({"FATAL"})),
    **dict.fromkeys(("debug",), frozenset({"DEBUG"})),
    **dict.fromkeys(("info", "infos"), frozenset({"INFO"})),
    **dict.fromkeys(("trace",), frozenset({"TRACE"})),
}
_STOP_WORDS = """
a an the this that these those there here it its is are was were be been being am do does did done
has have had having will would can could shall should may might must of in on at to from for with
without by as and or if then than so not no any some all each every both few such own same too very
just only again ever yet still also me my we our you your he she they them their i us which what who
whom whose when where while during after before between until since within into many much often
times time total number count different unique distinct please tell show list find give display
print get log logs logfile file files line lines entry entries record records event events message
messages occurrence occurrences occurred occur occurs happen happens happened happening appear
appears appeared see seen logged say says said contain contains containing contained mention
mentions mentioned mentioning about like called named report reported reports write wrote written
produce produced produces throw threw thrown throws raise raised raises most common commonly
frequent frequently top first last latest earliest recent recently final finally initial initially
level levels instance instances case cases stack stacks trace traces stacktrace stacktraces
backtrace date day hour minute per hourly daily timestamp timestamps exactly overall altogether
recorded syslog come came go went got make made according going altogether
over total along through via up shows shown together
"""
_STOP = frozenset(_STOP_WORDS.split())


def scan_intent(question: str) -> ScanQuery | None:
    """Return what an exact scan should look for, or None where the question has to be read."""
    quoted, bare = _take_quoted(question)
    if _EXTREME.search(bare):
        bare = _HOW_LONG.sub(" ", bare)  # how long it took is read from the line
    bare = _CAUSED_MOST.sub(" ", bare)
    bare = _GIVES_OUT.sub(r"\1", bare)
    if _READING.search(bare) or _COMPARED.search(bare) or _RELATIVE.search(bare):
        return None
    if not quoted and (_PROSE_NOUN.search(bare) or _PROSE_VERB.search(bare)):
        return None
    without = tuple(a or b for a, b in _WITHOUT.findall(bare))
    bare = _WITHOUT.sub(" ", bare)
    files = tuple(_FILE.findall(bare))
    bare = _FILE.sub(" ", bare)
    when, bare = find_time_range(bare)
    number = _NUMBER.search(bare)
    if number:
        bare = bare[: number.start(number.lastindex or 0)] + bare[number.end() :]
    found = _operation(_STATUS.sub(_status_term, bare))
    if found is None:
        return None
    operation, field, bucket, rest = found
    levels, level_word, terms = _terms(rest, quoted)
    if not terms and not levels and not asks_for_lines(bare, operation, when):
        return None
    n_wanted = int(number.group(1) or number.group(2)) if number else 10
    if number and operation in (Operation.FIRST, Operation.LAST):
        operation = Operation.LIST
    return ScanQuery(
        question=question,
        operation=operation,
        terms=terms,
        levels=levels,
        level_word=level_word,
        when=when,
        field=field,
        bucket=bucket,
        n_wanted=max(1, n_wanted),
        files=files,
        without=without,
        is_explicit=(operation is Operation.COUNT and bool(quoted))
        or is_of_levels(operation, levels, terms),
        names_log=bool(files),
    )


def _status_term(match: re.Match[str]) -> str:
    named = match.groupdict()
    status = f"{named.pop('f')}xx" if match["f"] else next(filter(None, named.values()))
    return f" HTTP_{status} "


def _take_quoted(question: str) -> tuple[list[str], str]:
    quoted = [next(filter(None, groups)) for groups in _QUOTED.findall(question)]
    return quoted, _QUOTED.sub(" \x00 ", question)


def _operation(bare: str) -> tuple[Operation, str, str, str] | None:
    """Return operation, field, bucket, and the question without the words that state them."""
    extreme = _EXTREME.search(bare)
    if extreme:
        name = next((n for n in ("longest", "shortest", "largest") if extreme[n]), "smallest")
        rest = _EXTREME.sub(" ", bare)
        if extreme["of"] not in (None, "request"):  # these are lines of their own
            rest = re.sub(rf"\b{extreme['of']}s?\b", " ", rest, count=1, flags=re.I)
        return Operation(name), extreme["of"] or "", "", rest
    bucket = _BUCKET.search(bare)
    if bucket and (
        COUNT.search(bare)
        or _MOST.search(bare)
        or _LIST.search(bare)
        or _PEAK.search(bare)
        or (_PER.match(bucket.group()) and LOG.search(bare))
        or len(bare.split()) <= _SHORT_WORDS
    ):
        word = (bucket.group(1) or bucket.group(2)).lower()
        unit = {"hourly": "hour", "daily": "day", "date": "day"}.get(word, word)
        rest = _BUCKET.sub(" ", bare)
        for asking in (_PEAK, _MOST, _LIST, COUNT):
            rest = asking.sub(" ", rest)
        return Operation.HISTOGRAM, "", unit, rest
    top = _TOP.search(bare) or _PER_FIELD.search(bare)
    if top is None and _MOST.search(bare) and _WHO.search(bare):
        return Operation.TOP, "user", "", _MOST.sub(" ", _WHO.sub(" ", bare))
    if top and _is_top(top, bare):
        noun = top.group("noun").split()[0]
        kept = noun if noun.lower() in _LEVEL_WORDS else " "
        rest = bare[: top.start()] + kept + bare[top.end() :]
        rest = COUNT.sub(" ", _LIST.sub(" ", _MOST.sub(" ", rest)))
        return Operation.TOP, FIELD_OF_NOUN[top.group("noun").lower()], "", rest
    if COUNT.search(bare):
        return Operation.COUNT, "", "", COUNT.sub(" ", bare)
    is_time = _WHEN.search(bare) is not None
    asks = is_time or _LIST.search(bare) is not None
    if not asks and not re.search(
        r"(?:^|[:,]|\s-)\W*(?:the |what(?: is| was| are| were|'s) the )?(?:very )?(?:first|last|"
        r"latest|earliest|most recent)\b",
        bare,
        re.I,
    ):
        return None
    rest = _LIST.sub(" ", _WHEN.sub(" ", bare))
    if _FIRST.search(bare) and _LAST.search(bare):
        return Operation.COUNT, "", "", _FIRST.sub(" ", _LAST.sub(" ", rest))  # it shows both
    if _FIRST.search(bare):
        return Operation.FIRST, "", "", _FIRST.sub(" ", rest)
    if _LAST.search(bare):
        return Operation.LAST, "", "", _LAST.sub(" ", rest)
    return (Operation.WHEN if is_time else Operation.LIST), "", "", rest


def _is_top(match: re.Match[str], bare: str) -> bool:
    """Whether a field's noun asks for its values: plural, compared, or the source of something."""
    ask = match.groupdict().get("ask") or "per"
    noun = match.group("noun").lower()
    if not ask.lower().startswith(("which", "what")):
        return True
    return noun.endswith("s") or ask.lower().startswith("from") or _MOST.search(bare) is not None


def asks_for_lines(question: str, operation: Operation, when: TimeRange | None) -> bool:
    """Whether the question is about all records: how many lines, lines per hour, top hosts."""
    if operation in ALL_LINES:
        return True
    return bool(
        re.search(r"\b(?:lines?|records?|entries|entry|events?|messages?)\b", question, re.I)
    ) and (operation is not Operation.WHEN or when is not None)


def is_of_levels(operation: Operation, levels: frozenset[str], terms: tuple[Term, ...]) -> bool:
    """Whether the records of a level are counted, whatever they say."""
    return operation is Operation.COUNT and bool(levels) and not terms


def _terms(rest: str, quoted: list[str]) -> tuple[frozenset[str], str, tuple[Term, ...]]:
    """Return levels, the word that named them, and the terms left in `rest`.

    Neighbouring words make one term. "connection errors" keeps `errors` as a word too: the scan
    tries the phrase, then the level.
    """
    terms = [Term((text,), True, is_quoted=True) for text in quoted]
    levels: frozenset[str] = frozenset()
    level_word = ""
    run: list[str] = []
    for part in re.split(r"[,;!?()\[\]{}\x00]|\s-\s", rest):
        is_joined = False  # to a level before it: "warnings and errors"
        for token in _TOKEN.findall(part):
            word = token.strip(".:'").removesuffix("'s").removesuffix("’s")
            low = word.lower()
            if low in _LEVEL_WORDS and level_word in ("fatal", "critical"):
                continue  # `fatal errors` are fatal
            if low in _LEVEL_WORDS and (not levels or is_joined):
                levels, level_word = levels | _LEVEL_WORDS[low], level_word or low
                _end_run(run, terms)
            elif _IDENTIFIER.search(word) and low not in _STOP:
                _end_run(run, terms)
                status = re.fullmatch(r"HTTP_(\d{3}|\dxx)", word)
                is_status = status is not None
                terms.append(Term((status.group(1) if status else word,), True, is_status))
            elif low in _STOP or len(low) < 2 or not re.search(r"\w", low) or low.endswith("n't"):
                _end_run(run, terms)
            else:
                run.append(low)
            is_joined = bool(levels) and low in ("and", "or", *_LEVEL_WORDS)
        _end_run(run, terms)
    return levels, level_word, tuple(terms)


def _end_run(run: list[str], terms: list[Term]) -> None:
    if run:
        terms.append(Term(tuple(run)))
        run.clear()
