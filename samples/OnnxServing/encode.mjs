// From rows of texts, as a CSV file holds them, to the inputs of an exported model. docs/export.md states the rules.
import { xxhash64 } from './xxhash64.mjs';

// schema: what 'cudamoe export --schema' wrote. rows: objects from column to text. Tensor: the run time's class. Gives the feeds of a session's run.
export function encode(schema, rows, Tensor) {
  const tables = Object.fromEntries(schema.tables.map((table) => [table.name, { rows: table.rows, ids: ids(table) }]));
  return Object.fromEntries(schema.inputs.map((input) => [input.name, feed(schema, input, tables[input.table], rows, Tensor)]));
}

function feed(schema, input, table, rows, Tensor) {
  const list = input.feature === 'multi_hot' || input.feature === 'sequence';
  const bags = rows.map((row) => (list || input.feature === 'vector' ? bag(schema, input, row[input.column] ?? '') : [trim(schema, row[input.column] ?? '')]));
  // A free number of places is as large as the longest bag, and at least one.
  const width = input.shape[1] >= 0 ? input.shape[1] : Math.max(1, ...bags.map((values) => values.length));
  const shape = [rows.length, width];
  const fill = (array, absent, value) => {
    bags.forEach((values, row) => {
      for (let i = 0; i < width; i++)
        array[row * width + i] = i < values.length && !schema.missing.includes(values[i]) ? value(values[i]) : absent;
    });
    return array;
  };
  switch (input.type) {
    case 'double': return new Tensor('float64', fill(new Float64Array(rows.length * width), NaN, Number), shape);
    case 'float': return new Tensor('float32', fill(new Float32Array(rows.length * width), 0, Number), shape);
    case 'string': return new Tensor('string', fill(new Array(rows.length * width), '', (text) => text), shape);
    default: return new Tensor('int64', fill(new BigInt64Array(rows.length * width), list ? -1n : 0n, (text) => id(input, table, text)), shape);
  }
}

function bag(schema, input, text) {
  if (schema.missing.includes(trim(schema, text))) return [];
  const values = text.split(input.separator).map((value) => trim(schema, value));
  if (input.feature === 'vector') return values;
  const known = values.filter((value) => !schema.missing.includes(value));
  return input.keep === 'last' ? known.slice(-input.max_length) : known.slice(0, input.max_length);
}

function id(input, table, text) {
  switch (input.encoding) {
    case 'vocabulary': return table.ids.get(text) ?? 0n;
    case 'hash': return 1n + xxhash64(text) % BigInt(table.rows - 1);
    default: return /^[+-]?\d{1,18}$/.test(text) && BigInt(text) > 0n && BigInt(text) < BigInt(table.rows) ? BigInt(text) : 0n;
  }
}

const ids = (table) => new Map((table.vocabulary ?? []).map((text, i) => [text, BigInt(i + 1)]));
const trim = (schema, text) => (schema.trim ? text.replace(/^[ \t]+|[ \t]+$/g, '') : text);
