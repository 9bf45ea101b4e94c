// Calls what dstack's JavaScript SDK offers, at the guest agent that DSTACK_SIMULATOR_ENDPOINT names. Prints the answers as
// JSON. NODE_PATH says where the SDK is.
"use strict";

const { createPrivateKey, createPublicKey, X509Certificate } = require("node:crypto");
const { DstackClient } = require("@phala/dstack-sdk");
const { secp256k1 } = require("@noble/curves/secp256k1");
const { keccak_256 } = require("@noble/hashes/sha3");

const DIGEST = Uint8Array.from({ length: 32 }, (_, index) => index);

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const spki = (key) => hex(key.export({ format: "der", type: "spki" }));

// A TLS key, and what another implementation of X.509 says about it.
function tlsKey(answer) {
  const chain = answer.certificate_chain.map((pem) => new X509Certificate(pem));
  chain.forEach((certificate, index) => {
    const issuer = chain[Math.min(index + 1, chain.length - 1)];
    if (!certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey)) {
      throw new Error(`certificate ${index} was not issued by the next one`);
    }
  });
  const key = createPrivateKey({ key: Buffer.from(answer.asUint8Array()), format: "der", type: "pkcs8" });
  return {
    certificate_chain: answer.certificate_chain,
    key_fits: chain[0].checkPrivateKey(key) && spki(createPublicKey(answer.key)) === spki(chain[0].publicKey),
  };
}

function recover(signature, message) {
  const recoverable = secp256k1.Signature.fromCompact(signature.slice(0, 64)).addRecoveryBit(signature[64]);
  return recoverable.recoverPublicKey(keccak_256(message)).toRawBytes(true);
}

// Who signed a chain: the application's key and the root key, by another implementation of secp256k1.
function vouchers(purpose, publicKey, [byApplication, byRoot], appId) {
  const application = recover(byApplication, Buffer.from(`${purpose}:${hex(publicKey)}`));
  const issued = Buffer.concat([Buffer.from("dstack-kms-issued:"), Buffer.from(appId, "hex"), application]);
  return { application: hex(application), root: hex(recover(byRoot, issued)) };
}

async function signed(client, algorithm, data, appId) {
  const answer = await client.sign(algorithm, data);
  const [first, ...chain] = answer.signature_chain;
  if (hex(first) !== hex(answer.signature)) throw new Error("the chain starts with another signature");
  const verify = async (data) => (await client.verify(algorithm, data, answer.signature, answer.public_key)).valid;
  return {
    public_key: hex(answer.public_key),
    signature: hex(answer.signature),
    vouchers: vouchers("signing", answer.public_key, chain, appId),
    valid: await verify(data),
    forged: await verify(Uint8Array.from(data).reverse()),
  };
}

async function main() {
  const client = new DstackClient();
  const info = await client.info();
  const key = await client.getKey("pg/superuser", "login");
  const quote = await client.getQuote("postern");
  const data = Buffer.from("data");
  const dates = { notBefore: 1_700_000_000, notAfter: 1_700_000_060 };
  return {
    reachable: await client.isReachable(),
    version: await client.version(),
    info,
    tls_key: tlsKey(
      await client.getTlsKey({ subject: "db", altNames: ["db.test"], usageRaTls: true, usageClientAuth: true }),
    ),
    dated: tlsKey(await client.getTlsKey({ usageRaTls: true, withAppInfo: true, ...dates })),
    plain: tlsKey(await client.getTlsKey()),
    key: hex(key.key),
    vouchers: vouchers("login", secp256k1.getPublicKey(key.key, true), key.signature_chain, info.app_id),
    keys: [hex((await client.getKey("pg/superuser", "", "ed25519")).key)],
    quote,
    replayed: quote.replayRtmrs(),
    attestation: (await client.attest("postern")).attestation,
    signed: {
      ed25519: await signed(client, "ed25519", data, info.app_id),
      secp256k1: await signed(client, "secp256k1", data, info.app_id),
      secp256k1_prehashed: await signed(client, "secp256k1_prehashed", DIGEST, info.app_id),
    },
    refusals: {
      algorithm: await client.getKey("path", "", "rsa").then(
        () => null,
        (error) => error.message,
      ),
    },
  };
}

main().then((answers) => console.log(JSON.stringify(answers)));
