// The 64-bit xxHash with seed 0 (XXH64, Yann Collet's published specification) of a text in UTF-8, as a BigInt.
const [P1, P2, P3, P4, P5] = [0x9E3779B185EBCA87n, 0xC2B2AE3D27D4EB4Fn, 0x165667B19E3779F9n, 0x85EBCA77C2B2AE63n, 0x27D4EB2F165667C5n];
const u64 = (x) => BigInt.asUintN(64, x);
const rotate = (x, bits) => u64((x << bits) | (x >> (64n - bits)));
const round = (lane, input) => u64(rotate(u64(lane + input * P2), 31n) * P1);
const merge = (hash, lane) => u64((hash ^ round(0n, lane)) * P1 + P4);

export function xxhash64(text) {
  const bytes = new TextEncoder().encode(text);
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  let hash = P5;
  if (bytes.length >= 32) {
    const lanes = [u64(P1 + P2), P2, 0n, u64(-P1)];
    for (; at + 32 <= bytes.length; at += 32)
      lanes.forEach((lane, i) => { lanes[i] = round(lane, data.getBigUint64(at + 8 * i, true)); });
    hash = u64(rotate(lanes[0], 1n) + rotate(lanes[1], 7n) + rotate(lanes[2], 12n) + rotate(lanes[3], 18n));
    hash = lanes.reduce(merge, hash);
  }
  hash = u64(hash + BigInt(bytes.length));
  for (; at + 8 <= bytes.length; at += 8)
    hash = u64(rotate(hash ^ round(0n, data.getBigUint64(at, true)), 27n) * P1 + P4);
  if (at + 4 <= bytes.length) {
    hash = u64(rotate(hash ^ u64(BigInt(data.getUint32(at, true)) * P1), 23n) * P2 + P3);
    at += 4;
  }
  for (; at < bytes.length; at++)
    hash = u64(rotate(hash ^ u64(BigInt(bytes[at]) * P5), 11n) * P1);
  hash = u64((hash ^ (hash >> 33n)) * P2);
  hash = u64((hash ^ (hash >> 29n)) * P3);
  return hash ^ (hash >> 32n);
}
