"""Reads an attestation as TeeSQL's clients do, recomputes both formulas, and prints what it says as one JSON line."""

import hashlib
import json
import secrets
import sys
import urllib.request

REPORT_DATA = slice(568, 632)  # of a TDX quote of version 4
MRTD = slice(184, 232)


def fetch(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def quote_of(answer):
    quote = bytes.fromhex(answer["quote"])
    assert quote[MRTD] == bytes.fromhex(answer["tcb_info"]["mrtd"]), "mrtd"
    for register in ("rtmr0", "rtmr1", "rtmr2", "rtmr3"):
        assert len(bytes.fromhex(answer["tcb_info"][register])) == 48, register
    return quote


def main(url):
    plain = fetch(url)
    state = plain["postgres_state"]
    bound = hashlib.sha256((state["wal_lsn"] + state["controldata_hash"] + str(plain["timestamp"])).encode()).digest()
    assert quote_of(plain)[REPORT_DATA] == bound + bytes(32), "the formula without a nonce"

    nonce = secrets.token_hex(32)
    fresh = fetch(f"{url}?nonce={nonce}")
    state = fresh["postgres_state"]
    terms = [fresh["app_id"], fresh["compose_hash"], fresh["instance_id"], state["wal_lsn"], state["controldata_hash"],
             state["pg_version"], str(fresh["timestamp"]), nonce, fresh["tls_public_key"]]
    bound = hashlib.sha512(b"postern-attestation-2:" + b"".join(len(t).to_bytes(4, "big") + t.encode() for t in terms))
    assert quote_of(fresh)[REPORT_DATA] == bound.digest(), "the formula with a nonce"
    print(json.dumps({"app_id": fresh["app_id"], **state}))


main(sys.argv[1])
