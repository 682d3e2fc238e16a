"""What structured logs record: kinds of events with their fields, and messages with values in them.

Data and draws only; `adapter_fields` writes them as log lines and asks about them. A field has the
words its key is made of, and wordings of people who ask for it, which seldom use that key.
"""

# ruff: noqa: E501 (tables of wordings are wider than code)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.training import adapter_words as words
from models.training.adapter_sheets import Words

Value = Callable[[Words], str]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: the words of its key in several spellings, its values, how it is named.

    `asked` are nouns for it; `anchor` tells an event by it (`{v}`: the value); `wh` are questions
    of their own (`{e}`: the event with its anchors).
    """

    keys: tuple[str, ...]
    value: Value
    asked: tuple[str, ...]
    anchor: tuple[str, ...] = ()
    wh: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of event."""

    things: tuple[str, ...]
    messages: tuple[str, ...]
    fields: tuple[Field, ...]


def ip(w: Words) -> str:
    """Return an IPv4 address."""
    return ".".join(str(w.rng.randint(1, 254)) for _ in range(4))


def number(low: int, high: int) -> Value:
    """Return a draw of whole numbers."""
    return lambda w: str(w.rng.randint(low, high))


def one_of(*values: str) -> Value:
    """Return a draw of these values."""
    return lambda w: w.rng.choice(values)


def hexes(n: int) -> Value:
    """Return a draw of identifiers of `n` hexadecimal digits."""
    return lambda w: f"{w.rng.randrange(16**n):0{n}x}"


def path(w: Words) -> str:
    """Return a URL's path."""
    parts = w.rng.sample(
        (
            "api",
            "v2",
            "images",
            "docs",
            "cart",
            "export",
            "admin",
            "files",
            "feed",
            "search",
            "static",
            "login",
            "projects",
            "download",
        ),
        w.rng.randint(1, 3),
    )
    end = w.any(
        (
            "",
            "/",
            f"/{w.rng.randint(1, 9000)}",
            ".html",
            ".php",
            f"?page={w.rng.randint(2, 40)}",
            "/style.css",
            "/favicon.ico",
        )
    )
    return "/" + "/".join(parts) + end


def file_path(w: Words) -> str:
    """Return a path of a file system."""
    folder = w.any(
        ("/var/lib", "/etc", "/opt", "/srv", "/usr/share", "/data", "/var/run", "/home/build")
    )
    name = w.any(
        (
            "conf.d/main.cnf",
            "server.sock",
            "cert.pem",
            "state.db",
            "plugins/core.so",
            "queue.dat",
            "run.pid",
            "defaults.ini",
            "export.csv",
            "backup.tar.gz",
        )
    )
    return f"{folder}/{w.pick(tuple(words.SERVICES))}/{name}"


def user(w: Words) -> str:
    """Return an account's name."""
    return w.any(
        (
            w.pick(words.LAST).lower(),
            f"{w.pick(words.FIRST)[0]}{w.pick(words.LAST)}".lower(),
            "root",
            "admin",
            "deploy",
            "svc-" + w.any(tuple(words.DATABASES)),
        )
    )


def host(w: Words) -> str:
    """Return a host's name."""
    return f"{w.any(tuple(words.HOSTS))}{w.any(('-', ''))}{w.rng.randint(1, 60):02}{w.any(('', '', '.internal', '.example.net', '.lan'))}"


def version(w: Words) -> str:
    """Return a version."""
    return f"{w.rng.randint(0, 19)}.{w.rng.randint(0, 30)}.{w.rng.randint(0, 20)}"


def mac(w: Words) -> str:
    """Return a hardware address."""
    return ":".join(f"{w.rng.randrange(256):02x}" for _ in range(6))


def table(w: Words) -> str:
    """Return a table's name."""
    return w.any(
        (
            w.any(tuple(words.DATABASES)),
            f"{w.any(tuple(words.DATABASES))}_{w.any(('archive', 'old', 'items', 'log', 'tmp'))}",
            f"public.{w.any(tuple(words.DATABASES))}",
        )
    )


def duration(w: Words) -> str:
    """Return a time that something took, with or without its unit."""
    return w.any(
        (
            f"{w.rng.randint(1, 9000)}",
            f"{w.rng.uniform(0.001, 9):.6f}",
            f"{w.rng.randint(1, 900)}ms",
            f"{w.rng.uniform(0.1, 90):.3f}s",
            f"{w.rng.randint(1, 9000)}",
        )
    )


AGENT = one_of("curl/7.88.1", "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "python-requests/2.31.0", "Wget/1.21", "okhttp/4.9.3", "Go-http-client/1.1", "PostmanRuntime/7.32.3", "Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X)")  # fmt: skip
ERROR = one_of("connection refused", "connection reset by peer", "permission denied", "no such file or directory", "context deadline exceeded", "invalid credentials", "disk quota exceeded", "unexpected end of JSON input", "duplicate key value", "TLS handshake timeout", "too many open files", "out of memory", "lock wait timeout exceeded", "name or service not known")  # fmt: skip

CLIENT = Field(("client ip", "remote addr", "src", "client", "source address", "c ip"), ip, ("client", "client address", "ip", "source ip", "caller's address"), ("from {v}", "of client {v}", "by {v}"), ("Who sent {e}?", "Which client made {e}?", "From which address did {e} come?", "which ip was behind {e}?"))  # fmt: skip
STATUS = Field(("status", "response status", "http status", "sc status", "code"), one_of("200", "201", "204", "301", "302", "304", "400", "401", "403", "404", "409", "429", "499", "500", "502", "503", "504"), ("status", "http status", "response code", "status code"), ("that got a {v}", "answered with {v}", "with status {v}"), ("How was {e} answered?", "What did the server answer to {e}?", "What status did {e} get?"))  # fmt: skip
TOOK = Field(("duration", "request time", "time taken", "elapsed", "duration ms", "latency"), duration, ("duration", "time it took", "response time"), (), ("How long did {e} take?", "How long was {e} running?"))  # fmt: skip
SIZE = Field(("bytes", "size", "bytes sent", "sc bytes", "body bytes sent"), number(20, 900_000), ("size", "number of bytes", "bytes sent"), (), ("How many bytes were sent for {e}?", "How large was {e}?"))  # fmt: skip
USER = Field(("user", "user name", "account", "usr", "principal"), user, ("user", "account", "user name"), ("by {v}", "of user {v}", "by account {v}"), ("Who was behind {e}?", "Which account made {e}?", "Who did {e}?"))  # fmt: skip
HOST = Field(("host", "hostname", "node", "server"), host, ("host", "machine", "server"), ("on {v}", "on host {v}"), ("On which host was {e}?", "Where did {e} run?"))  # fmt: skip
FAILED = Field(("error", "reason", "err", "error message", "cause"), ERROR, ("error", "reason", "cause"), ("that failed with '{v}'",), ("Why did {e} fail?", "What went wrong with {e}?", "What was the reason that {e} failed?"))  # fmt: skip
ID = Field(("id", "request id", "trace id", "ray id", "correlation id"), hexes(16), ("id", "request id", "trace id"), ("with id {v}",))  # fmt: skip
PID = Field(("pid", "process id", "thread"), number(100, 99_999), ("process id", "pid"), ())
PORT = Field(("port", "dst port", "remote port"), number(20, 65_000), ("port", "port number"), ("on port {v}",), ("Which port did {e} use?",))  # fmt: skip

KINDS = (
    Kind(("request", "request", "call", "http request"), ("handled request", "request completed", "access", "request finished"), (
        CLIENT, STATUS, TOOK, SIZE, USER, ID,
        Field(("method", "request method", "cs method", "http method", "verb"), one_of("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"), ("method", "http verb"), ("with method {v}", "using {v}")),
        Field(("uri", "path", "url", "request uri", "cs uri stem", "client request uri"), path, ("path", "url", "page", "resource"), ("for {v}", "to {v}", "asking for {v}"), ("What was asked for in {e}?", "Which page did {e} ask for?")),
        Field(("user agent", "agent", "client request user agent", "ua"), AGENT, ("user agent", "browser", "program"), (), ("What program made {e}?", "Which user agent sent {e}?")),
        Field(("upstream", "upstream addr", "backend", "proxied to"), lambda w: f"{ip(w)}:{w.rng.randint(80, 9999)}", ("upstream server", "backend", "server behind it"), ("sent to backend {v}",), ("Which backend served {e}?",)),
        Field(("country", "geo country", "client country"), one_of("NL", "US", "DE", "BR", "IN", "FR", "JP", "CN"), ("country", "country of the client"), ("from {v}",)),
        Field(("rule id", "waf rule id", "matched rule"), number(100_000, 999_999), ("rule", "waf rule", "firewall rule"), (), ("Which rule stopped {e}?", "Which waf rule matched {e}?")),
        Field(("cache status", "cache", "x cache"), one_of("HIT", "MISS", "BYPASS", "EXPIRED", "dynamic"), ("cache status",), (), ("Was {e} served from the cache?",)),
    )),
    Kind(("login", "login attempt", "authentication", "sign-in"), ("authentication", "login", "auth event", "user session"), (
        USER, CLIENT, HOST, FAILED, PORT, PID,
        Field(("auth method", "mechanism", "method"), one_of("publickey", "password", "ldap", "saml", "kerberos", "totp"), ("method", "way of authentication"), ("by {v}",), ("How was {e} authenticated?",)),
        Field(("result", "outcome", "action"), one_of("success", "failure", "locked", "expired", "denied"), ("outcome", "result"), (), ("How did {e} end?", "Was {e} successful?")),
        Field(("session id", "sid", "session"), hexes(12), ("session id", "session"), ("in session {v}",)),
        Field(("tty", "terminal"), one_of("pts/0", "pts/6", "tty1", "ssh", "console"), ("terminal",)),
    )),
    Kind(("query", "statement", "slow query", "database query"), ("Slow query", "query finished", "duration logged", "statement"), (
        USER, TOOK, CLIENT, FAILED,
        Field(("database", "db", "ns", "schema"), table, ("database", "namespace", "schema"), ("on {v}", "in database {v}"), ("Which database was {e} run against?",)),
        Field(("rows", "rows sent", "n returned", "rows examined"), number(0, 900_000), ("number of rows", "rows returned"), (), ("How many rows did {e} return?", "How many rows were read by {e}?")),
        Field(("plan", "plan summary", "index"), lambda w: w.any((f"IXSCAN {{ {w.any(tuple(words.DATABASES))}_id: 1 }}", "COLLSCAN", f"Index Scan using {w.any(tuple(words.DATABASES))}_pkey", f"Seq Scan on {w.any(tuple(words.DATABASES))}")), ("plan", "index", "scan the planner chose"), (), ("Which plan was used for {e}?", "What index did {e} use?")),
        Field(("statement", "sql", "query"), lambda w: w.any((f"SELECT * FROM {table(w)}", f"UPDATE {table(w)} SET state = {w.rng.randint(1, 9)}", f"DELETE FROM {table(w)} WHERE id = {w.rng.randint(1, 9999)}", f"INSERT INTO {table(w)} VALUES ({w.rng.randint(1, 99)})")), ("statement", "sql", "query text"), (), ("What was executed in {e}?", "What sql was {e}?")),
        Field(("connection id", "conn", "thread id"), number(2, 99_999), ("connection", "connection id"), ("on connection {v}",)),
        Field(("lock time", "lock wait"), duration, ("lock time", "time waiting for locks")),
    )),
    Kind(("job", "task", "batch job", "run"), ("job finished", "task state changed", "job", "run ended"), (
        HOST, FAILED, TOOK, USER,
        Field(("job id", "task id", "job", "run id"), lambda w: w.any((str(w.rng.randint(100, 99_999)), hexes(8)(w), f"job-{w.rng.randint(1, 999)}")), ("job id", "task"), ("{v}", "with id {v}"), ("Which job was {e}?",)),
        Field(("queue", "pool", "partition"), one_of("default", "high", "gpu", "mail", "reports", "night", "bulk"), ("queue", "pool"), ("in queue {v}", "of the {v} queue"), ("In which queue was {e}?",)),
        Field(("worker", "executor", "runner"), lambda w: f"{w.any(('worker', 'executor', 'runner'))}-{w.rng.randint(1, 64)}", ("worker", "runner", "executor"), ("on {v}",), ("Who worked on {e}?", "Which worker ran {e}?")),
        Field(("exit code", "rc", "return code"), number(0, 255), ("exit code", "return code"), ("that exited with {v}",), ("With which code did {e} exit?",)),
        Field(("attempt", "retries", "try"), number(1, 12), ("attempt", "number of attempts"), ("in attempt {v}",), ("How often was {e} tried?",)),
        Field(("memory", "max rss", "mem mb"), number(12, 64_000), ("memory", "peak memory"), (), ("How much memory did {e} need?",)),
        Field(("state", "status", "phase"), one_of("SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT", "PENDING", "RUNNING"), ("state", "status"), ("that is {v}",), ("How did {e} end?",)),
    )),
    Kind(("start", "startup", "boot", "deployment"), ("Starting server", "service started", "starting", "deployment finished"), (
        PORT, PID, HOST, TOOK,
        Field(("version", "release", "build version"), version, ("version", "release"), ("of version {v}", "of {v}"), ("Which version was started in {e}?", "What release was it in {e}?")),
        Field(("commit", "revision", "git sha", "hash"), hexes(12), ("commit", "revision"), ("of commit {v}",)),
        Field(("branch", "channel"), one_of("main", "release", "HEAD", "develop", "hotfix"), ("branch",), ("of branch {v}",)),
        Field(("config file", "config", "settings file", "cfg"), file_path, ("configuration file", "settings file", "config"), (), ("Which configuration did {e} read?",)),
        Field(("mode", "env", "profile"), one_of("production", "staging", "standalone", "cluster", "debug", "test"), ("mode", "environment"), ("in {v} mode",), ("In which mode was {e}?",)),
        Field(("workers", "threads", "n threads"), number(1, 128), ("number of workers", "number of threads"), (), ("How many workers did {e} have?",)),
        Field(("go version", "runtime", "java version"), lambda w: w.any((f"go{version(w)}", f"OpenJDK {version(w)}", f"Python {version(w)}")), ("runtime", "language version")),
    )),
    Kind(("message", "record", "event", "delivery"), ("message delivered", "produce", "consumer lag", "offset committed"), (
        HOST, FAILED, SIZE,
        Field(("topic", "subject", "stream"), lambda w: f"{w.any(tuple(words.DATABASES))}{w.any(('', '-events', '.v1', '_dlq'))}", ("topic", "stream"), ("on topic {v}", "of {v}"), ("On which topic was {e}?",)),
        Field(("partition", "shard"), number(0, 63), ("partition", "shard"), ("in partition {v}",), ("In which partition was {e}?",)),
        Field(("offset", "position", "seq"), number(0, 9_999_999), ("offset", "position"), ("at offset {v}",), ("At which offset was {e}?",)),
        Field(("group", "consumer group", "group id"), lambda w: f"{w.pick(tuple(words.SERVICES))}-group", ("consumer group", "group"), ("of group {v}",), ("Which group read {e}?",)),
        Field(("leader", "broker", "broker id"), number(0, 9), ("leader", "broker"), ("of broker {v}",), ("Which broker led {e}?",)),
        Field(("lag", "backlog"), number(0, 90_000), ("lag", "backlog"), (), ("How far behind was {e}?",)),
    )),
    Kind(("connection", "session", "flow", "packet"), ("connection closed", "flow", "conn", "packet dropped"), (
        CLIENT, PORT, TOOK, SIZE, ID,
        Field(("dst", "destination", "id resp h", "server ip"), ip, ("destination", "target address", "server's address"), ("to {v}",), ("Where did {e} go?", "To which address was {e}?")),
        Field(("proto", "protocol", "service"), one_of("tcp", "udp", "icmp", "dns", "ssl", "http", "ssh"), ("protocol", "service"), ("over {v}",)),
        Field(("action", "verdict", "conn state"), one_of("accept", "drop", "deny", "reset", "S0", "SF", "REJ"), ("verdict", "action"), ("that was {v}",), ("What was done with {e}?",)),
        Field(("interface", "zone", "in if"), one_of("eth0", "eth1", "wan", "dmz", "tun0", "bond0", "en0"), ("interface", "zone"), ("on {v}",), ("On which interface was {e}?",)),
        Field(("rule", "policy", "acl"), lambda w: f"{w.any(('allow', 'block', 'deny'))}-{w.any(('dns', 'web', 'guests', 'vpn', 'smb'))}-{w.rng.randint(1, 40)}", ("rule", "policy"), (), ("Which rule was applied to {e}?",)),
        Field(("mac", "hw addr", "lladdr"), mac, ("hardware address", "mac address"), ("of {v}",)),
    )),
    Kind(("reading", "measurement", "alarm", "sample"), ("sensor reading", "threshold exceeded", "telemetry", "status report"), (
        HOST,
        Field(("sensor", "device", "unit"), lambda w: f"{w.pick(words.MACHINES).replace(' ', '-')}-{w.rng.randint(1, 40)}", ("sensor", "device"), ("of {v}",), ("Which device gave {e}?",)),
        Field(("temperature", "temp c", "temp"), lambda w: f"{w.rng.uniform(-20, 120):.1f}", ("temperature",), (), ("How hot was it in {e}?",)),
        Field(("latitude", "lat"), lambda w: f"{w.rng.uniform(-80, 80):.7f}", ("latitude",)),
        Field(("longitude", "lon"), lambda w: f"{w.rng.uniform(-180, 180):.7f}", ("longitude",)),
        Field(("voltage", "vbat", "volts"), lambda w: f"{w.rng.uniform(1, 48):.2f}", ("voltage", "battery voltage")),
        Field(("firmware", "fw version", "fw"), version, ("firmware", "firmware version")),
        Field(("signal", "rssi"), lambda w: f"-{w.rng.randint(30, 110)}", ("signal strength",)),
        Field(("limit", "threshold", "max"), number(10, 900), ("limit", "threshold")),
    )),
)  # fmt: skip

# Messages with values in slots, and what is asked for each slot.
MESSAGES: tuple[tuple[str, dict[str, Value], tuple[tuple[str, str], ...]], ...] = (
    ("Accepted {method} for {user} from {ip} port {port} ssh2", {"method": one_of("password", "publickey"), "user": user, "ip": ip, "port": number(1024, 65000)}, (("ip", "From where did {user} log in?"), ("ip", "which address did {user} connect from with a {method}"), ("user", "Who logged in from {ip}?"), ("port", "source port of {user}'s ssh login from {ip}"))),
    ("Failed password for {user} from {ip} port {port} ssh2", {"user": user, "ip": ip, "port": number(1024, 65000)}, (("ip", "Which ip guessed the wrong password of {user}?"), ("user", "For which account did {ip} fail to log in?"))),
    ("DHCPACK on {ip} to {mac} via {dev}", {"ip": ip, "mac": mac, "dev": one_of("eth0", "eth1", "br0", "wlan0")}, (("ip", "Which address was leased to {mac}?"), ("mac", "what device got {ip} by dhcp"), ("dev", "On which interface did {mac} get its lease?"))),
    ("bound to {ip} -- renewal in {s} seconds.", {"ip": ip, "s": number(200, 90000)}, (("s", "After how many seconds will the lease of {ip} be renewed?"), ("ip", "address bound, renewal in {s} s"))),
    ("{dev}: link up, {speed} Mbps, full duplex", {"dev": one_of("eth0", "eth1", "en0", "enp3s0"), "speed": one_of("100", "1000", "10000", "2500")}, (("speed", "How fast is the link of {dev}?"), ("dev", "Which interface came up at {speed} Mbps?"))),
    ("Out of memory: Killed process {pid} ({proc}) total-vm:{kb}kB", {"pid": number(100, 40000), "proc": one_of("java", "mysqld", "chrome", "python3", "postgres", "node"), "kb": number(90000, 9000000)}, (("proc", "Which program was killed for lack of memory?"), ("pid", "pid of the {proc} that the oom killer stopped"), ("kb", "How much virtual memory did {proc} have when it was killed?"))),
    ("Connection to {host}:{port} refused", {"host": host, "port": number(80, 9999)}, (("port", "Which port of {host} could not be reached?"), ("host", "Which machine refused the connection on port {port}?"))),
    ("Started {svc} in {sec} seconds (JVM running for {sec2})", {"svc": lambda w: w.pick(tuple(words.SERVICES)), "sec": lambda w: f"{w.rng.uniform(1, 90):.3f}", "sec2": lambda w: f"{w.rng.uniform(91, 99):.2f}"}, (("sec", "How long did {svc} need to come up?"), ("sec", "startup time of {svc}"))),
    ("partition {part}: leader is broker {b}, epoch {e}", {"part": lambda w: f"{w.any(tuple(words.DATABASES))}-{w.rng.randint(0, 40)}", "b": number(0, 9), "e": number(1, 90)}, (("b", "Who leads {part}?"), ("e", "leader epoch of {part}"))),
    ("Listening on {addr}:{port} ({proto})", {"addr": one_of("0.0.0.0", "127.0.0.1", "10.0.0.5", "::"), "port": number(80, 9999), "proto": one_of("http", "grpc", "metrics", "admin")}, (("port", "On which port is {proto} served?"), ("port", "{proto} listen port"))),
    ("usb {bus}: new high-speed USB device number {n} using {drv}", {"bus": lambda w: f"{w.rng.randint(1, 4)}-{w.rng.randint(1, 9)}", "n": number(2, 40), "drv": one_of("xhci_hcd", "ehci-pci", "dwc2")}, (("drv", "Which driver handles the usb device on {bus}?"), ("n", "number given to the new usb device at {bus}"))),
    ("Loaded configuration from {path}", {"path": file_path}, (("path", "Where was the configuration read from?"), ("path", "which config file was loaded"))),
    ('ERROR:  relation "{table}" does not exist at character {n}', {"table": table, "n": number(8, 90)}, (("table", "Which table did somebody query that is not there?"), ("table", "missing relation in the database log"))),
    ("certificate for {host} expires on {date}", {"host": host, "date": lambda w: w.date()}, (("date", "Until when is the certificate of {host} valid?"), ("host", "Whose certificate runs out on {date}?"))),
    ("backup of {db} finished: {mb} MB in {sec} s", {"db": table, "mb": number(3, 90000), "sec": number(2, 9000)}, (("mb", "How large was the backup of {db}?"), ("sec", "How many seconds did it take to back up {db}?"))),
    ("temperature of {sensor} is {c} C, limit {c2} C", {"sensor": lambda w: f"{w.any(('cpu', 'fan', 'disk', 'psu', 'gpu'))}{w.rng.randint(0, 8)}", "c": number(60, 99), "c2": number(100, 120)}, (("c", "How hot did {sensor} get?"), ("c2", "What is the highest temperature allowed for {sensor}?"))),
    ("volume {mount} is {pct}% full ({gb} GB free)", {"mount": one_of("/var", "/", "/home", "/data", "/srv/backup", "/opt"), "pct": number(70, 99), "gb": number(1, 40)}, (("gb", "How much space is left on {mount}?"), ("pct", "how full is {mount}"))),
    ("job {id} failed after {n} attempts: {err}", {"id": hexes(6), "n": number(2, 12), "err": ERROR}, (("err", "Why was job {id} given up?"), ("n", "How often was job {id} tried before it was given up?"))),
    ("login failed for {user}: {reason}", {"user": user, "reason": one_of("account locked", "password expired", "unknown user", "invalid token", "ip not allowed")}, (("reason", "Why could {user} not log in?"), ("user", "Whose login was turned down ({reason})?"))),
    ("Upgraded {pkg} from {v1} to {v2}", {"pkg": one_of("openssl", "libxml2", "kernel", "nginx", "postgresql", "docker-ce"), "v1": version, "v2": version}, (("v2", "To which version was {pkg} updated?"), ("v1", "What version of {pkg} was installed before?"))),
    ("mail from <{a}> to <{b}> rejected: {reason}", {"a": lambda w: f"{user(w)}@{host(w)}", "b": lambda w: f"{user(w)}@example.org", "reason": one_of("mailbox full", "spam score 9.1", "relay denied", "greylisted", "unknown recipient")}, (("reason", "Why was the mail of {a} turned away?"), ("b", "To whom did {a} write?"), ("a", "Who tried to mail {b}?"))),
    ("exporting failed, dropping data: request to {url} responded with HTTP Status Code {code}", {"url": lambda w: f"http://{host(w)}:{w.rng.randint(80, 9999)}{path(w)}", "code": one_of("500", "502", "401", "429")}, (("code", "What did the endpoint return when the exporter lost its data?"), ("url", "Where could the data not be exported to?"))),
    ("Backend {name}/{srv} is DOWN, reason: {reason}, {n} active servers left", {"name": lambda w: f"bk_{w.any(tuple(words.DATABASES))}", "srv": lambda w: f"srv{w.rng.randint(1, 40)}", "reason": one_of("Layer4 timeout", "Layer7 wrong status", "Layer4 connection problem"), "n": number(1, 9)}, (("srv", "Which server of {name} went down?"), ("reason", "Why is {name}/{srv} down?"), ("n", "How many servers has {name} left?"))),
    ("received {sig}, shutting down after {s} s of uptime", {"sig": one_of("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"), "s": number(10, 900000)}, (("sig", "Which signal stopped the service?"), ("s", "How long had the service been up when it was stopped?"))),
    ("{user} : TTY={tty} ; PWD={pwd} ; USER=root ; COMMAND={cmd}", {"user": user, "tty": one_of("pts/0", "pts/6", "tty2"), "pwd": file_path, "cmd": one_of("/bin/systemctl restart nginx", "/usr/bin/apt upgrade", "/bin/mount /mnt/usb", "/usr/bin/tail -f /var/log/messages", "/sbin/reboot")}, (("cmd", "What did {user} run as root?"), ("user", "Who ran {cmd} with sudo?"), ("pwd", "In which directory was {user} when running {cmd}?"))),
)  # fmt: skip

SETTINGS = ("max.connections", "log.segment.bytes", "session.timeout.ms", "listen_address", "cache.size", "retry.backoff.ms", "data.dir", "ssl.enabled", "worker_processes", "heap.max.mb", "replication.factor", "bind.host", "request.timeout.ms", "gc.interval", "tls.cert.file", "buffer.memory", "auto.create.topics", "queue.capacity", "snapshot.interval.hours", "shared_buffers", "max_wal_size", "keepalive_timeout", "zookeeper.connect", "advertised.listeners", "compression.type", "client.id", "cleanup.policy", "pool.min.idle", "login.attempts.max", "index.refresh.interval")  # fmt: skip
