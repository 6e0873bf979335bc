"""What REDIS_URL may be."""

import pytest

from jobs.redis_pool import connection_pool
from jobs.redis_url import ClusterUrl, SentinelUrl, cluster, for_people, sentinels, usable, with_password
from jobs.settings import SettingsError, SharedSettings


@pytest.mark.parametrize(
    ("url", "meaning"),
    [
        ("redis://redis:6379/1", None),
        ("redis+cluster://one", ClusterUrl((("one", 6379),), "redis://")),
        (
            "rediss+cluster://me:p%2Fw@one:1,two,[::1]:3/0?ssl_ca_certs=ca.pem",
            ClusterUrl((("one", 1), ("two", 6379), ("::1", 3)), "rediss://me:p%2Fw@?ssl_ca_certs=ca.pem"),
        ),
        ("redis+sentinel://one/queue", SentinelUrl((("one", 26379),), "queue", "redis://")),
        (
            "redis+sentinel://me:p%2Fw@one:1,two:2,[::1]:3/my%20queue/4?sentinel_password=x",
            SentinelUrl((("one", 1), ("two", 2), ("::1", 3)), "my queue", "redis://me:p%2Fw@/4?sentinel_password=x"),
        ),
        (
            "rediss+sentinel://[::1],[::2]/queue/?ssl_ca_certs=ca.pem",
            SentinelUrl((("::1", 26379), ("::2", 26379)), "queue", "rediss://?ssl_ca_certs=ca.pem"),
        ),
    ],
)
def test_a_url_names_one_redis_or_its_sentinels_or_its_cluster(
    url: str, meaning: SentinelUrl | ClusterUrl | None
) -> None:
    assert usable(url) == url
    assert (sentinels(url) or cluster(url)) == meaning


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+cluster://:secret@redis:6379/1", "with one database"),
        ("redis+cluster://:secret@", "with one database"),
        ("rediss+cluster://:secret@one:1,two:many", "'two:many' is no HOST"),
        ("redis-cluster://:secret@one:1", "must begin with one of"),
        ("redis://:secret@one:1,two:2", "names several hosts"),
        ("redis://:secret@one:many", "Port could not be cast"),
        ("redis+sentinel://:secret@one:26379", "with the master's name"),
        ("redis+sentinel://:secret@one:many/queue", "'one:many' is no HOST"),
        ("redis+sentinel://:secret@/queue", "with the master's name"),
        ("redis+sentinel://:secret@one/queue/first", "with the master's name"),
        ("http://:secret@redis:6379", "must begin with one of"),
        ("redis:6379", "must begin with one of"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(SettingsError, match="REDIS_URL=") as refused:
        SharedSettings.from_env()
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("redis+sentinel://one:1,[::1]:2/queue", "redis+sentinel://:p%2Fw@one:1,[::1]:2/queue"),
        ("redis+sentinel://me@one,two/queue/1", "redis+sentinel://me:p%2Fw@one,two/queue/1"),
        ("rediss+cluster://me@one,two", "rediss+cluster://me:p%2Fw@one,two"),
        ("redis://me:other@redis:6379", "redis://me:p%2Fw@redis:6379"),
    ],
)
def test_a_password_is_put_before_the_hosts(url: str, login: str) -> None:
    assert with_password(url, "p/w") == login


def test_what_people_are_shown_has_no_passwords() -> None:
    url = "redis+sentinel://me:p/w@one:1,two:2/queue?sentinel_password=x@y"
    assert for_people(url) == "redis+sentinel://one:1,two:2/queue"
    assert for_people("rediss+cluster://me:p/w@one:1,two:2?ssl_ca_certs=x") == "rediss+cluster://one:1,two:2"


def test_sentinels_have_a_login_of_their_own_and_share_the_certificates() -> None:
    url = "rediss+sentinel://me:a%2Fb@one:1/queue/3?sentinel_username=you&sentinel_password=c%2Fd&ssl_ca_certs=ca.pem"
    pool = connection_pool(url, 5, connect_timeout_s=2, answer_timeout_s=5)
    [sentinel] = pool.sentinel_manager.sentinels  # type: ignore[attr-defined]  # of a pool by sentinels
    asked, master = sentinel.get_connection_kwargs(), pool.connection_kwargs
    assert (master["username"], master["password"], master["db"]) == ("me", "a/b", 3)
    assert (asked["host"], asked["port"], asked["username"], asked["password"]) == ("one", 1, "you", "c/d")
    assert asked["ssl_ca_certs"] == master["ssl_ca_certs"] == "ca.pem"
    assert "sentinel_password" not in master
