// Orders as JSON of exactly so many bytes, as JSON.stringify writes it. What fills them up doesn't compress.
import { randomBytes } from "node:crypto";

/** Random text to cut from: enough that hardly two messages have the same. */
const TEXT = randomBytes(1 << 20).toString("base64").replaceAll(/[^A-Za-z0-9]/g, "");

/** Ids and times have always as many digits. */
const FIRST_ID = 100_000_000;
const DIGITS = 20;

/** Makes the next message, with the time that it says it was sent at. */
export function payloads(bytes) {
  const order = (id, sent, note) => ({
    id,
    type: "order.paid",
    customer: "c-1029384",
    amount: 129.95,
    currency: "EUR",
    sent: String(sent).padStart(DIGITS, "0"),
    note,
  });
  const room = bytes - JSON.stringify(order(FIRST_ID, 0, "")).length;
  if (room < 0) throw new Error(`a message has at least ${bytes - room} bytes`);
  let id = FIRST_ID;
  return (sent = 0n) => {
    const start = Math.floor(Math.random() * (TEXT.length - room));
    return order(id++, sent, TEXT.slice(start, start + room));
  };
}
