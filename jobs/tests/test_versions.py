"""Which version a job is for, by the known versions and their routes."""

import pytest

from jobs.schema import ImageJob, ModelInfo
from jobs.versions.rules import CannotRoute, Route, Version, Versions
from runtime.errors import NoSuchModel


def version(name: str, *, pool: str | None = None, workers: int = 1) -> Version:
    """Return a version as its workers make it known, beside the default pool unless another is named."""
    model, _, number = name.partition("@")
    return Version(ModelInfo(f"{name}-id", model, number), name if pool is None else pool, workers)


def pools(versions: Versions, model: str = "", image: str = "dog") -> list[str]:
    return list(versions.pools(ImageJob.create(f"{image}.jpg", 1, model=model)))


PETS, PETS_2, CARS = version("pets@1", pool=""), version("pets@2"), version("cars@1")


def test_before_any_worker_is_known_jobs_are_for_the_default_pool() -> None:
    assert pools(Versions()) == [""]
    assert Versions().served() is None


def test_without_a_route_the_default_pool_serves_and_others_get_what_names_them() -> None:
    versions = Versions([PETS, PETS_2, CARS])
    assert [pools(versions, name) for name in ("", "pets", "pets@1")] == [[""]] * 3
    assert [pools(versions, name) for name in ("pets@2", "cars", "cars@1")] == [["pets@2"], ["cars@1"], ["cars@1"]]
    with pytest.raises(NoSuchModel):
        pools(versions, "birds")


@pytest.mark.parametrize("workers", [0, 1])
def test_of_a_model_beside_the_default_pool_the_version_that_came_first_serves(workers: int) -> None:
    found = [PETS, version("cars@1", workers=workers), version("cars@2")]
    assert pools(Versions(found), "cars") == ["cars@1"]


def test_before_the_default_workers_have_come_versions_beside_them_get_only_what_names_them() -> None:
    versions = Versions([PETS_2, CARS])
    assert [pools(versions, name) for name in ("", "pets@2", "cars@1")] == [[""], ["pets@2"], ["cars@1"]]
    assert (versions.served(), versions.names, versions.role(PETS_2)) == (None, [], ("idle", 0))
    for name in ("pets", "cars"):
        with pytest.raises(NoSuchModel):
            pools(versions, name)


def test_what_a_route_says_holds_before_the_default_workers_have_come() -> None:
    versions = Versions([PETS_2, CARS], {"pets": Route("2")})
    assert [pools(versions, name) for name in ("", "pets")] == [[""], ["pets@2"]]


def test_default_workers_that_are_gone_leave_what_names_no_model_to_nobody() -> None:
    versions = Versions([version("pets@1", pool="", workers=0), PETS_2, CARS])
    assert [pools(versions, name) for name in ("", "pets", "cars")] == [[""], [""], ["cars@1"]]


@pytest.mark.parametrize(("workers", "pool"), [(1, ""), (0, "pets@1")])
def test_a_version_in_the_default_pool_and_beside_it_is_answered_where_it_has_workers(workers: int, pool: str) -> None:
    versions = Versions([version("pets@1", pool="", workers=workers), version("pets@1", workers=1 - workers)])
    assert [pools(versions, name) for name in ("", "pets", "pets@1")] == [[pool]] * 3


def test_the_route_says_which_version_serves() -> None:
    versions = Versions([PETS, PETS_2, CARS], {"pets": Route("2")})
    assert [pools(versions), pools(versions, "pets"), pools(versions, "pets@1")] == [["pets@2"], ["pets@2"], [""]]
    assert pools(versions, "cars") == ["cars@1"]
    assert versions.default_pool == "pets@2"


def test_a_version_that_is_rolled_out_in_place_of_the_one_that_served_serves_whatever_did_before() -> None:
    switched_and_back = Route("1").serving("2").serving("1")
    versions = Versions([version("pets@3", pool=""), PETS_2], {"pets": switched_and_back})
    assert [pools(versions, name) for name in ("", "pets", "pets@2")] == [[""], [""], ["pets@2"]]
    assert versions.routes == {"pets": Route("3", ("1", "2"))}


def test_a_version_that_served_before_stands_in_for_one_that_was_rolled_out_and_has_no_worker() -> None:
    versions = Versions([version("pets@3", pool="", workers=0), PETS_2], {"pets": Route("1", ("2",))})
    assert pools(versions) == ["pets@2"]


def test_a_roll_out_of_another_version_leaves_a_switch_as_it_is() -> None:
    versions = Versions([version("pets@3", pool=""), PETS_2], {"pets": Route("2", ("1",))})
    assert pools(versions) == ["pets@2"]


def test_a_route_of_a_model_that_is_not_the_default_one_outlives_its_versions() -> None:
    versions = Versions([PETS, version("cars@3")], {"cars": Route("1", ("2",))})
    assert (pools(versions, "cars"), versions.routes) == (["cars@3"], {"cars": Route("1", ("2",))})


@pytest.mark.parametrize(
    ("route", "alive", "serves"),
    [
        (Route("3", ("2", "1")), {"3", "2", "1"}, "3"),
        (Route("3", ("2", "1")), {"2", "1"}, "2"),
        (Route("3", ("2", "1")), {"1"}, "1"),
        (Route("3"), {"1", "2"}, "1"),  # the default pool's, not 2, which has never served
        (Route("3"), {"2"}, "3"),
        (Route("3", ("2",)), set(), "3"),
    ],
)
def test_versions_that_served_before_stand_in_for_one_without_workers(
    route: Route, alive: set[str], serves: str
) -> None:
    found = [
        version(f"pets@{each}", pool=pool, workers=int(each in alive))
        for each, pool in (("1", ""), ("2", "two"), ("3", "three"))
    ]
    served = Versions(found, {"pets": route}).served()
    assert served
    assert served.info.version == serves


def test_a_canary_gets_its_share_of_images_always_the_same_ones_and_leaves_those_that_it_cannot_take() -> None:
    images = [f"{number:064x}" for number in range(5000)]
    versions = Versions([PETS, PETS_2], {"pets": Route("1", canary={"2": 20})})
    chosen = {image for image in images if pools(versions, image=image) == ["pets@2", ""]}
    assert 0.18 < len(chosen) / len(images) < 0.22
    assert {image for image in images if pools(versions, image=image) == [""]} == set(images) - chosen
    more = Versions([PETS, PETS_2], {"pets": Route("1", canary={"2": 40})})
    assert chosen < {image for image in images if len(pools(more, image=image)) == 2}


def test_a_canary_without_workers_gets_nothing_and_the_others_get_no_more_for_that() -> None:
    images = [f"{number:064x}" for number in range(1000)]
    route = Route("1", canary={"2": 30, "3": 30})
    with_both = Versions([PETS, PETS_2, version("pets@3")], {"pets": route})
    with_one = Versions([PETS, version("pets@2", workers=0), version("pets@3")], {"pets": route})
    of_third = [image for image in images if "pets@3" in pools(with_both, image=image)]
    assert of_third
    assert [image for image in images if len(pools(with_one, image=image)) == 2] == of_third


def test_which_images_are_compared_does_not_depend_on_which_are_a_canarys() -> None:
    images = [f"{number:064x}" for number in range(5000)]
    versions = Versions([PETS, PETS_2, version("pets@3")], {"pets": Route("1", canary={"2": 50}, shadow={"3": 50})})
    [copies] = versions.copies("")
    both = sum(copies.has(image) and len(pools(versions, image=image)) == 2 for image in images)
    assert 0.2 < both / len(images) < 0.3


def test_copies_are_made_of_what_the_serving_version_answers_alone() -> None:
    versions = Versions([PETS, PETS_2, CARS], {"pets": Route("1", shadow={"2": 100, "9": 100})})
    assert [(copies.version, copies.percent) for copies in versions.copies("")] == [(PETS_2, 100)]
    assert versions.copies("pets@2") == versions.copies("cars@1") == []


def test_the_serving_workers_stand_in_for_versions_of_their_model_without_workers() -> None:
    gone, of_another = version("pets@2", workers=0), version("cars@1", workers=0)
    versions = Versions([PETS, gone, of_another])
    assert versions.orphans("") == [gone]
    assert versions.orphans("pets@2") == versions.orphans("cars@1") == []


def test_of_a_version_in_the_default_pool_and_beside_it_that_with_workers_counts_and_is_listed_once() -> None:
    beside = version("pets@1")
    assert Versions([version("pets@1", pool="", workers=0), beside]).listed == [beside]
    assert Versions([PETS, beside]).listed == [PETS]


def test_roles_say_what_each_version_is_for() -> None:
    found = [PETS, PETS_2, version("pets@3"), version("pets@4"), CARS]
    versions = Versions(found, {"pets": Route("1", canary={"2": 5}, shadow={"3": 10})})
    roles = [tuple(versions.role(each)) for each in found]
    assert roles == [("serves", 95), ("canary", 5), ("shadow", 10), ("idle", 0), ("serves", 100)]


def test_a_route_survives_its_way_through_redis() -> None:
    route = Route("3", ("2", "1"), {"4": 5}, {"5": 10})
    assert Route.decode(route.encode()) == route


def test_switching_remembers_what_served_before_and_rolling_back_returns_to_it() -> None:
    route = Route("1").with_canary("2", 5).with_shadow("2", 10).with_shadow("3", 1)
    switched = route.serving("2")
    assert switched == Route("2", ("1",), {}, {"3": 1})
    assert switched.serving("3").serving("2") == Route("2", ("3", "1"))
    assert switched.rolled_back() == Route("1", (), {}, {"3": 1})


def test_rolling_back_first_takes_what_canaries_get() -> None:
    route = Route("2", ("1",)).with_canary("3", 5).with_canary("3", 50)
    assert route.rolled_back() == Route("2", ("1",))
    assert route.rolled_back().rolled_back() == Route("1")
    with pytest.raises(CannotRoute, match="before 1"):
        Route("1").rolled_back()


def test_what_canaries_get_can_be_changed_and_ended_but_is_no_more_than_all() -> None:
    route = Route("1").with_canary("2", 60)
    assert route.with_canary("2", 40).canary == {"2": 40}
    assert route.with_canary("2", 0) == Route("1")
    with pytest.raises(CannotRoute, match="110 %"):
        route.with_canary("3", 50)
    with pytest.raises(CannotRoute, match="1 serves"):
        route.with_canary("1", 5)
    with pytest.raises(CannotRoute, match="1 serves"):
        route.with_shadow("1", 5)
