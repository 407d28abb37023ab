"""Made-up secrets of every kind that must not be published, in pieces: to a scanner of repositories this file is clean."""

import base64
import json

_LETTERS = "aBcDeFgHiJkLmNoPqRsTuVwXyZ"
_MIXED = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z6a7B8c9D0e1F2g3H4i5J6k7L8m9N0"
_JWT = ".".join(
    base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
    for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": "1234567890", "name": "Somebody"})
)

SECRETS = {
    "hugging face": "hf_" + (_LETTERS * 2)[:34],
    "hugging face, keyless": "hf_" + f"jwt_{_JWT}",
    "github": "ghp_" + _MIXED[:36],
    "github, of an app": "ghs_" + _MIXED[:36],
    "github, fine-grained": "github_" + f"pat_{_MIXED[:22]}_{_MIXED[:59]}",
    "gitlab": "glpat-" + _MIXED[:20],
    "aws": "AKIA" + "Q3RTZ5WXY7UVB2CD",
    "azure": "AccountKey" + f"={(_MIXED * 2)[:86]}==",
    "url with a password": "https://" + "someone:hunter2" + "@db.example.com/x",
    "discord": "M" + f"{_MIXED[:23]}.{_MIXED[:6]}.{_MIXED[:27]}",
    "web token": f"{_JWT}.{_MIXED[:43]}",
    "mailchimp": "0123456789abcdef0123456789abcdef" + "-us12",
    "npm": "npm_" + _MIXED[:36],
    "openai": "sk-" + f"{_MIXED[:20]}T3BlbkFJ{_MIXED[:20]}",
    "openai, of a project": "sk-" + f"proj-{_MIXED[:48]}",
    "anthropic": "sk-" + f"ant-api03-{_MIXED[:40]}",
    "google": "AIza" + _MIXED[:35],
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "ssh key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "encrypted key": "-----BEGIN " + "ENCRYPTED PRIVATE KEY-----",
    "pypi": "pypi-" + f"AgEIcHlwaS5vcmc{_MIXED[:72]}",
    "sendgrid": "SG." + f"{_MIXED[:22]}.{_MIXED[:43]}",
    "slack": "xoxb-" + "123456789012-123456789012-abcdefghijkl",
    "slack webhook": "https://hooks.slack.com" + f"/services/T{_MIXED[:8]}/B{_MIXED[:8]}/{_MIXED[:24]}",
    "square": "sq0csp-" + _MIXED[:43],
    "stripe": "sk_live_" + _MIXED[:24],
    "telegram": "123456789" + f":{_MIXED[:35]}",
    "twilio": "SK" + "0123456789abcdef0123456789abcdef",
}
