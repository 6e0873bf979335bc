"""Distinguishes public addresses from special ones, by IANA's registries.

Python's `ipaddress` does so as well, but each of its versions has another edition.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

# Unicast addresses. All IPv6 addresses assigned to networks are in this block.
_UNICAST = IPv4Network("0.0.0.0/0"), IPv6Network("2000::/3")
# The special blocks within these, from https://www.iana.org/assignments/iana-ipv4-special-registry and
# https://www.iana.org/assignments/iana-ipv6-special-registry, and those for multicast or reserved. Some are routed, but
# not to a webhook receiver's server.
_SPECIAL = (
    IPv4Network("0.0.0.0/8"),  # this network
    IPv4Network("10.0.0.0/8"),  # private
    IPv4Network("100.64.0.0/10"),  # shared by a provider's customers
    IPv4Network("127.0.0.0/8"),  # this machine
    IPv4Network("169.254.0.0/16"),  # this link, and a cloud's metadata
    IPv4Network("172.16.0.0/12"),  # private
    IPv4Network("192.0.0.0/24"),  # protocols
    IPv4Network("192.0.2.0/24"),  # documentation
    IPv4Network("192.31.196.0/24"),  # AS112
    IPv4Network("192.52.193.0/24"),  # multicast tunnels
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv4Network("192.168.0.0/16"),  # private
    IPv4Network("192.175.48.0/24"),  # AS112
    IPv4Network("198.18.0.0/15"),  # benchmarks
    IPv4Network("198.51.100.0/24"),  # documentation
    IPv4Network("203.0.113.0/24"),  # documentation
    IPv4Network("224.0.0.0/4"),  # multicast
    IPv4Network("240.0.0.0/4"),  # reserved, and broadcast
    IPv6Network("2001::/23"),  # protocols; Teredo, which leads to any IPv4 address
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("2002::/16"),  # 6to4, which leads to any IPv4 address
    IPv6Network("2620:4f:8000::/48"),  # AS112
    IPv6Network("3fff::/20"),  # documentation
)
# IPv4 addresses within IPv6: mapped ones, and those of NAT64, by which networks without IPv4 reach the others.
_AS_IPV4 = IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is a public one on the Internet, and does not lead to another address."""
    if _is_in(address, _AS_IPV4):
        address = IPv4Address(int(address) & 0xFFFF_FFFF)
    return _is_in(address, _UNICAST) and not _is_in(address, _SPECIAL)


def _is_in(address: IPv4Address | IPv6Address, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    return any(address in network for network in networks)
