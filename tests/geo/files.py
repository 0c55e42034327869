"""Files in MaxMind's format, made by the tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

BERLIN: dict[str, Any] = {
    "city": {"names": {"en": "Berlin", "de": "Berlin"}},
    "country": {"iso_code": "DE", "is_in_european_union": True, "names": {"en": "Germany"}},
    "location": {"latitude": 52.52, "longitude": 13.4, "time_zone": "Europe/Berlin", "accuracy_radius": 100},
    "subdivisions": [{"iso_code": "BE", "names": {"en": "Land Berlin"}}, {"iso_code": "XY"}],
}
SAO_PAULO: dict[str, Any] = {
    "city": {"names": {"en": "São Paulo"}},
    "country": {"iso_code": "BR"},
    "location": {"latitude": -23.5, "longitude": -46.6, "time_zone": "America/Sao_Paulo"},
    "subdivisions": [{"iso_code": "SP"}],
}
PARIS: dict[str, Any] = {
    "city": {"names": {"en": "Paris"}},
    "country": {"iso_code": "FR", "is_in_european_union": True},
    "location": {"latitude": 48.9, "longitude": 2.4, "time_zone": "Europe/Paris"},
}

#: Networks for documentation (RFC 5737, RFC 3849).
CITIES: dict[str, dict[str, Any]] = {
    "192.0.2.0/25": BERLIN,
    "198.51.100.0/24": SAO_PAULO,
    "203.0.113.0/24": PARIS,
    "2001:db8:1::/48": BERLIN,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "192.0.2.0/24": {"autonomous_system_number": 64500, "autonomous_system_organization": "Example"},
    "203.0.113.0/25": {"autonomous_system_number": 64511},
}


def write(path: Path, records: Mapping[str, Mapping[str, Any]], kind: str = "Test-City") -> Path:
    """Writes a file, and puts it in the place of one that is there at once."""
    writer = MMDBWriter(6, kind, languages=["en"], ipv4_compatible=True, float_type="f64")
    for network, record in records.items():
        writer.insert_network(IPSet([network]), dict(record))
    made = path.with_name(f"{path.name}.new")
    writer.to_db_file(str(made))
    return made.replace(path)
