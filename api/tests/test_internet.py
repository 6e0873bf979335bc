"""Distinguishing public addresses from special ones."""

from ipaddress import ip_address

import pytest

from api.webhooks.internet import is_public


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "9.255.255.255",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:200::1",
        "2620:4f:8001::1",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
    ],
)
def test_servers_on_the_internet_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - an address like the others
        "0.255.255.255",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.9",  # globally reachable, says Python 3.13
        "192.0.0.170",
        "192.0.0.255",
        "192.0.2.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.175.48.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
    ],
)
@pytest.mark.parametrize("form", ["{}", "::ffff:{}", "64:ff9b::{}", "::{}", "::ffff:0:{}", "64:ff9b:1::{}"])
def test_special_ipv4_addresses_are_not_in_any_form(form: str, address: str) -> None:
    assert not is_public(ip_address(form.format(address)))


@pytest.mark.parametrize(
    "address",
    [
        "::",
        "::1",
        "::1.1.1.1",  # IPv4-compatible, deprecated
        "::ffff:0:1.1.1.1",  # translated
        "64:ff9b:1::1.1.1.1",  # a network's own NAT64
        "64:ff9b::1:0:0",
        "100::1",  # discarded
        "100:0:0:1::1",
        "200::1",
        "1fff:ffff::1",
        "2001::1",  # Teredo
        "2001:1::1",  # globally reachable, says Python 3.13
        "2001:2::1",
        "2001:20::1",
        "2001:1ff:ffff::1",
        "2001:db8::1",
        "2002:101:101::1",  # 6to4 of a public address
        "2002:7f00:1::",
        "2620:4f:8000::1",
        "3fff::1",
        "3fff:fff:ffff::1",
        "4000::1",
        "5f00::1",  # segments of routes
        "fc00::1",
        "fd00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_special_ipv6_addresses_are_not(address: str) -> None:
    assert not is_public(ip_address(address))
