"""Which tokens are good: signature, algorithm, times, and what they say."""

from __future__ import annotations

import base64
import json
import time

import jwt
import pytest

from aistore.server.authn.keys import KeyRefused, check_secret, new_private_key, public_half, read_jwks, read_public_key
from aistore.server.authn.tokens import BadToken, Claims, Verifier, digest_of, key_id_of, sign
from guarding import SECRET, token

PAIR = new_private_key()
PUBLIC = public_half(PAIR)


def encoded(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def why(verifier: Verifier, bad: str) -> str:
    with pytest.raises(BadToken) as refused:
        verifier.verify(bad)
    assert bad not in str(refused.value)
    return str(refused.value)


def test_a_token_says_whose_it_is_and_what_it_grants() -> None:
    found = Verifier(SECRET).verify(token("u", 5, {"b": 3}, exp=4_000_000_000))
    assert found == Claims("alice", 4_000_000_000, False, {"u": 5}, {("u", "ais", "b"): 3})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": int(time.time()) - 1}, "token expired"),
        ({"exp": ...}, "exp claim is required"),
        ({"sub": ...}, "missing 'sub' claim"),
        ({"sub": ""}, "missing 'sub' claim"),
        ({"nbf": 4_000_000_000}, "not valid yet"),
        ({"exp": "2030-01-01"}, "malformed"),
        ({"admin": "true"}, "malformed"),
        ({"clusters": [{"id": "u", "perm": 5}]}, "malformed"),
        ({"clusters": [{"id": "u", "perm": "-1"}]}, "malformed"),
        ({"clusters": [{"id": "u", "perm": str(1 << 64)}]}, "malformed"),
        ({"buckets": [{"bck": "b", "perm": "1"}]}, "malformed"),
    ],
)
def test_claims_are_checked(change: dict[str, object], reason: str) -> None:
    assert reason in why(Verifier(SECRET), token(**change))  # type: ignore[arg-type]  # claims of any kind


def test_another_secret_is_refused() -> None:
    assert "signature is invalid" in why(Verifier("x" * 32), token())


def test_an_unsigned_token_is_refused() -> None:
    unsigned = f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{token().split('.')[1]}."
    for verifier in (Verifier(SECRET), Verifier(public_keys=[PUBLIC], any_key=True)):
        why(verifier, unsigned)


def test_the_public_key_is_no_secret() -> None:
    """The attack that mixes up algorithms: HS256 with what everybody knows."""
    import hashlib
    import hmac

    head, payload = encoded({"alg": "HS256", "typ": "JWT", "kid": PUBLIC.kid}), token().split(".")[1]
    mac = hmac.digest(PUBLIC.pem.encode(), f"{head}.{payload}".encode(), hashlib.sha256)
    forged = f"{head}.{payload}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert "unexpected signing method" in why(Verifier(public_keys=[PUBLIC]), forged)


def test_a_token_of_a_pair_is_refused_where_there_is_a_secret() -> None:
    signed = sign({"sub": "a", "exp": 4_000_000_000}, PAIR, PUBLIC.kid)
    assert "unexpected signing method" in why(Verifier(SECRET), signed)
    assert Verifier(public_keys=[PUBLIC]).verify(signed).subject == "a"


def test_the_key_of_a_token_has_to_be_known() -> None:
    signed = sign({"sub": "a", "exp": 4_000_000_000}, PAIR, "another")
    assert "unknown key id" in why(Verifier(public_keys=[PUBLIC]), signed)
    assert Verifier(public_keys=[PUBLIC], any_key=True).verify(signed).subject == "a"


def test_other_algorithms_of_the_key_are_accepted_as_the_reference_does() -> None:
    signed = jwt.encode({"sub": "a", "exp": 4_000_000_000}, PAIR, "RS512", {"kid": PUBLIC.kid})
    assert Verifier(public_keys=[PUBLIC]).verify(signed).subject == "a"
    signed = jwt.encode({"sub": "a", "exp": 4_000_000_000}, PAIR, "PS256", {"kid": PUBLIC.kid})
    why(Verifier(public_keys=[PUBLIC]), signed)


def test_no_other_spelling_of_a_token_is_good() -> None:
    """Its revocation would not find it."""
    good = token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(good[-1])
    for bits in range(1, 4):
        why(Verifier(SECRET), good[:-1] + alphabet[last ^ bits])
    for other in (f"{good}=", f"{good}\n", f" {good}", good.replace(".", "=.", 1), f"{good}.", f"{good}.x"):
        why(Verifier(SECRET), other)
        assert digest_of(other) != digest_of(good)


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c", "ü.ü.ü", "." * 100, "a" * 100_000, "\ud800.a.b"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(BadToken):
        Verifier(SECRET).verify(text)


def test_a_deep_document_is_refused() -> None:
    deep = base64.urlsafe_b64encode(b'{"alg":"HS256","x":' + b"[" * 10_000).rstrip(b"=").decode()
    for bad in (f"{deep}.e30.e30", f"{encoded({'alg': 'HS256'})}.{deep}.e30"):
        why(Verifier(SECRET), bad)
        assert key_id_of(bad) == ""


def test_an_entry_for_a_namespace_grants_nothing() -> None:
    entry = {"bck": {"name": "b", "provider": "ais", "namespace": {"uuid": "u", "name": "ns"}}, "perm": "3"}
    assert Verifier(SECRET).verify(token(buckets=[entry])).buckets == {}


@pytest.mark.parametrize(
    ("written", "meant"), [("gs", "gcp"), ("s3", "aws"), ("az", "azure"), ("", "ais"), ("gcp", "gcp")]
)
def test_a_provider_may_be_named_as_buckets_are(written: str, meant: str) -> None:
    entry = {"bck": {"name": "b", "provider": written, "namespace": {"uuid": "u", "name": ""}}, "perm": "3"}
    assert Verifier(SECRET).verify(token(buckets=[entry])).buckets == {("u", meant, "b"): 3}


def test_a_short_secret_is_refused_and_not_shown() -> None:
    with pytest.raises(KeyRefused) as refused:
        check_secret("aBitLongSecretKey")
    assert "aBit" not in str(refused.value)


def test_public_keys_are_read_as_pem_and_der() -> None:
    der = base64.b64encode(base64.b64decode("".join(PUBLIC.pem.splitlines()[1:-1]))).decode()
    assert read_public_key(PUBLIC.pem).kid == read_public_key(der).kid == PUBLIC.kid
    for bad in ("", "nonsense", "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----", PAIR):
        with pytest.raises(KeyRefused):
            read_public_key(bad)


def test_a_jwks_says_the_keys() -> None:
    (found,) = read_jwks(json.dumps({"keys": [PUBLIC.jwk, {"kty": "EC"}]}).encode())
    assert found.kid == PUBLIC.kid == PUBLIC.jwk["kid"]
    for bad in (b"", b"{}", b"[]", b'{"keys": [{"kty": "RSA"}]}'):
        with pytest.raises(KeyRefused):
            read_jwks(bad)
