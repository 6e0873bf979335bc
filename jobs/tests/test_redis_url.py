"""Valid and invalid values of REDIS_URL."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import SSLConnection

from jobs.redis.pool import connection_pool
from jobs.redis.url import RedisUrl, for_people, parse, usable, with_password
from jobs.settings import SettingsError, SharedSettings

SECRETS = "secret", "hidden", "tail"


@pytest.mark.parametrize(
    ("url", "meaning"),
    [
        ("redis://redis:6379/1", RedisUrl("one", False, (("redis", 6379),), "", "", {"db": 1})),
        ("redis://redis", RedisUrl("one", False, (("redis", 6379),), "", "", {})),
        ("redis://redis:/", RedisUrl("one", False, (("redis", 6379),), "", "", {})),
        ("redis://[fe80::1%25eth0]:7?db=2", RedisUrl("one", False, (("fe80::1%eth0", 7),), "", "", {"db": 2})),
        ("redis://:p@ss:w@redis", RedisUrl("one", False, (("redis", 6379),), "", "", {"password": "p@ss:w"})),
        (
            "rediss://me:p%2Fw%25@redis?ssl_cert_reqs=none&ssl_check_hostname=False",
            RedisUrl(
                "one",
                True,
                (("redis", 6379),),
                "",
                "",
                {"ssl_cert_reqs": "none", "ssl_check_hostname": False, "username": "me", "password": "p/w%"},
            ),
        ),
        (
            "unix://me:pw@/run/my%20redis/socket?db=3",
            RedisUrl("socket", False, (), "/run/my redis/socket", "", {"db": 3, "username": "me", "password": "pw"}),
        ),
        ("unix:///a?password=pw", RedisUrl("socket", False, (), "/a", "", {"password": "pw"})),
        ("redis+cluster://one", RedisUrl("cluster", False, (("one", 6379),), "", "", {})),
        (
            "rediss+cluster://me:p%2Fw@one:1,two,[::1]:3/0?ssl_ca_certs=ca.pem",
            RedisUrl(
                "cluster",
                True,
                (("one", 1), ("two", 6379), ("::1", 3)),
                "",
                "",
                {"ssl_ca_certs": "ca.pem", "username": "me", "password": "p/w"},
            ),
        ),
        ("redis+sentinel://one/queue", RedisUrl("sentinel", False, (("one", 26379),), "", "queue", {})),
        (
            "redis+sentinel://one:1,two:2,[::1]:3/my%20queue/4?sentinel_password=x",
            RedisUrl(
                "sentinel",
                False,
                (("one", 1), ("two", 2), ("::1", 3)),
                "",
                "my queue",
                {"sentinel_password": "x", "db": 4},
            ),
        ),
        (
            "rediss+sentinel://[::1],[::2]/queue/?ssl_ca_certs=ca.pem",
            RedisUrl("sentinel", True, (("::1", 26379), ("::2", 26379)), "", "queue", {"ssl_ca_certs": "ca.pem"}),
        ),
    ],
)
def test_a_url_names_one_redis_or_its_socket_or_its_sentinels_or_its_cluster(url: str, meaning: RedisUrl) -> None:
    assert parse(url) == meaning


WRONG = [
    ("redis+cluster://:secret@redis:6379/1", "with one database"),
    ("redis+cluster://:secret@redis:6379?db=1", "with one database"),
    ("redis+cluster://:secret@", "with one database"),
    ("rediss+cluster://:secret@one:1,two:many", "no HOST or HOST:PORT"),
    ("redis+cluster://:secret@one:1,", "no HOST or HOST:PORT"),
    ("redis-cluster://:secret@one:1", "must begin with one of"),
    ("redis://:secret@one:1,two:2", "names several hosts"),
    ("redis://:secret@one:many", "no HOST or HOST:PORT"),
    ("redis://:secret@one:65536", "no HOST or HOST:PORT"),
    ("redis://:secret@one:0", "no HOST or HOST:PORT"),
    ("redis://:secret@one:-1", "no HOST or HOST:PORT"),
    ("redis://:secret@one:6379:6379", "no HOST or HOST:PORT"),
    ("redis://:secret@::1:6379", "no HOST or HOST:PORT"),
    ("redis://:secret@[one]", "no HOST or HOST:PORT"),
    ("redis://:secret@:6379", "no HOST or HOST:PORT"),
    ("redis://:secret@one two", "no HOST or HOST:PORT"),
    ("redis://:secret", "no HOST or HOST:PORT"),
    ("redis://me:secret", "no HOST or HOST:PORT"),
    ("redis://:secret@", "One Redis is redis://"),
    ("redis://:secret@one/first", "with a database's number"),
    ("redis://:secret@one/-1", "with a database's number"),
    ("redis://:secret@one/1/2", "with a database's number"),
    ("redis://:secret@one/%31", "with a database's number"),
    ("redis://:secret@one?db=first", "db: It must be a number"),
    ("redis://:secret?tail@one:6379", "must be encoded"),
    ("redis://:6379?tail@one:6379", "must be encoded"),
    ("redis://:secret?ssl_ca_certs=tail@one", "must be encoded"),
    ("redis://:secret/tail@one:6379", "must be encoded"),
    ("redis://:6379/0/tail@one:6379", "must be encoded"),
    ("redis://:secret#tail@one:6379", "must be encoded"),
    ("redis://:secret@one:6379#tail", "must be encoded"),
    ("redis://:secret%@one:6379", "must be encoded"),
    ("redis://:secret%zz@one:6379", "must be encoded"),
    ("redis://:secret%ff@one:6379", "not UTF-8"),
    ("redis://:secret@one?client_name=%ff", "not UTF-8"),
    ("redis://:secret@one?client_name=my%20api", "client_name: It must have no spaces"),
    ("redis://:secret@one?client_name=my%0Aapi", "client_name: It must have no spaces"),
    ("redis+sentinel://:secret@one/queue?client_name=%C3%BC", "client_name: It must have no spaces"),
    ("redis://:secret@one?family=0", "'family' is none of redis://, which has db, username, password, client_name"),
    ("redis://:secret@one?socket_timeout=1", "'socket_timeout' is none of redis://"),
    ("redis://:secret@one?decode_responses=true", "'decode_responses' is none of redis://"),
    ("redis://:secret@one?ssl_ca_certs=ca.pem", "'ssl_ca_certs' is none of redis://"),
    ("redis://:secret@one?sentinel_password=hidden", "One of the options is none of redis://"),
    ("redis://one?password=secret&tail=hidden", "One of the options is none of redis://"),
    ("redis+sentinel://one/queue?sentinel_password=secret&tail", "One of the options is none of redis+sentinel://"),
    ("rediss://:secret@one?ssl_cert_reqs=never", "ssl_cert_reqs: It must be none, optional or required"),
    ("rediss://:secret@one?ssl_check_hostname=maybe", "ssl_check_hostname: It must be true or false"),
    ("rediss://:secret@one?ssl_ca_certs=/missing.pem", "ssl_ca_certs, ssl_ca_path: they cannot be used"),
    ("rediss://:secret@one?ssl_ca_certs=/dev/null", "ssl_ca_certs, ssl_ca_path: they cannot be used"),
    ("rediss://:secret@one?ssl_certfile=/missing", "ssl_certfile, ssl_keyfile, ssl_password: they cannot be used"),
    ("rediss://:secret@one?ssl_keyfile=/missing", "ssl_certfile, ssl_keyfile, ssl_password: they cannot be used"),
    ("redis+sentinel://:secret@one:26379", "with the master's name"),
    ("redis+sentinel://:secret@one:many/queue", "no HOST or HOST:PORT"),
    ("redis+sentinel://:secret/tail@one/queue", "must be encoded"),
    ("redis+sentinel://one/queue?sentinel_password=secret@tail", "must be encoded"),
    ("redis+sentinel://:secret@/queue", "with the master's name"),
    ("redis+sentinel://:secret@one/queue/first", "with the master's name"),
    ("redis+sentinel://:secret@one/queue?family=0", "'family' is none of redis+sentinel://"),
    ("redis+cluster://:secret@one?family=0", "'family' is none of redis+cluster://"),
    ("unix://:secret@one/path", "A Unix socket is unix://"),
    ("unix://:secret@", "A Unix socket is unix://"),
    ("unix://:secret@/", "A Unix socket is unix://"),
    ("unix://:secret@/path?ssl_ca_certs=ca.pem", "'ssl_ca_certs' is none of unix://"),
    (f"unix:///{'x' * 107}?password=secret", "107 bytes at most"),
    (f"unix:///{'ü' * 54}?password=secret", "107 bytes at most"),
    ("http://:secret@redis:6379", "must begin with one of"),
    ("REDIS://:secret@redis:6379", "must begin with one of"),
    ("redis:6379", "must begin with one of"),
    ("secret", "must begin with one of"),
]


@pytest.mark.parametrize(("url", "said"), WRONG)
def test_a_url_that_cannot_be_used_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(SettingsError, match=r"REDIS_URL=\.\.\.: ") as refused:
        SharedSettings.from_env()
    assert said in str(refused.value)
    causes: list[BaseException | None] = [refused.value, refused.value.__cause__, refused.value.__context__]
    assert not [secret for secret in SECRETS for cause in causes if secret in str(cause)]


FORMS = [
    "redis://:{}@one:6379/0",
    "rediss://{}@one",
    "redis://{}:{}@one/1",
    "redis://one?password={}",
    "unix://:{}@/path?db=1",
    "unix:///path?password={}",
    "redis+cluster://me:{}@one,two:1",
    "redis+sentinel://me:{}@one,two:1/queue/1",
    "redis+sentinel://one/queue?sentinel_password={}&db=1",
]
AROUND = st.text("/?#@%&=:,[]+. 0aé\n", max_size=4)


@pytest.mark.parametrize("form", FORMS)
@given(before=AROUND, after=AROUND)
def test_no_password_is_ever_shown_whatever_it_is(form: str, before: str, after: str) -> None:
    url = form.replace("{}", f"{before}secret{after}")
    try:
        shown = for_people(usable(url))
    except ValueError as err:
        shown = str(err)
    assert "secret" not in shown


@pytest.mark.parametrize("url", ["redis://:secret@redis", "unix://:secret@/path", "redis+cluster://:secret@one,two"])
def test_settings_do_not_show_the_password_of_redis(url: str) -> None:
    assert "secret" not in repr(SharedSettings(redis_url=url))


def test_the_environments_last_line_break_does_not_count() -> None:
    assert usable("redis://redis:6379\n") == "redis://redis:6379"


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("redis+sentinel://one:1,[::1]:2/queue", "redis+sentinel://:p%2Fw@one:1,[::1]:2/queue"),
        ("redis+sentinel://me@one,two/queue/1?db=2", "redis+sentinel://me:p%2Fw@one,two/queue/1?db=2"),
        ("rediss+cluster://me@one,two", "rediss+cluster://me:p%2Fw@one,two"),
        ("redis://me:other@redis:6379", "redis://me:p%2Fw@redis:6379"),
        ("redis://me:oth@er@redis:6379", "redis://me:p%2Fw@redis:6379"),
        ("unix:///path", "unix://:p%2Fw@/path"),
    ],
)
def test_a_password_is_put_before_the_hosts(url: str, login: str) -> None:
    assert with_password(url, "p/w") == login


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+sentinel://me:p%2Fw@one:1,two:2/queue?sentinel_password=x", "redis+sentinel://one:1,two:2/queue"),
        ("rediss+cluster://me:p@w@one:1,two:2?ssl_ca_certs=x", "rediss+cluster://one:1,two:2"),
        ("unix://:pw@/path?db=1", "unix:///path"),
    ],
)
def test_what_people_are_shown_has_no_passwords(url: str, shown: str) -> None:
    assert for_people(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:pw@one:1/2?client_name=api",
        "rediss://one?ssl_cert_reqs=none&ssl_check_hostname=false&ssl_ca_certs=a&ssl_ca_path=b&ssl_password=c",
        "rediss://one?ssl_certfile=a&ssl_keyfile=b",
        "unix://me:pw@/path?db=1",
        "redis+cluster://me:pw@one?client_name=api",
        "rediss+cluster://one?ssl_ca_certs=a",
        "rediss+sentinel://me:pw@one/queue/1?ssl_ca_certs=a&sentinel_username=b&sentinel_password=c",
    ],
)
def test_connections_take_every_option_that_a_url_may_have(url: str) -> None:
    pool: Any = connection_pool(url, 5, connect_timeout_s=2, answer_timeout_s=5)
    connection = pool.make_connection()
    assert isinstance(connection, SSLConnection) == url.startswith("rediss")


def test_sentinels_have_a_login_of_their_own_and_share_the_certificates() -> None:
    url = "rediss+sentinel://me:a%2Fb@one:1/queue/3?sentinel_username=you&sentinel_password=c%2Fd&ssl_ca_certs=ca.pem"
    pool = connection_pool(url, 5, connect_timeout_s=2, answer_timeout_s=5)
    [sentinel] = pool.sentinel_manager.sentinels  # type: ignore[attr-defined]  # of a pool by sentinels
    asked, master = sentinel.get_connection_kwargs(), pool.connection_kwargs
    assert (master["username"], master["password"], master["db"]) == ("me", "a/b", 3)
    assert (asked["host"], asked["port"], asked["username"], asked["password"]) == ("one", 1, "you", "c/d")
    assert asked["ssl_ca_certs"] == master["ssl_ca_certs"] == "ca.pem"
    assert "sentinel_password" not in master
