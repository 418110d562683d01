// Predicts the rows of a CSV file with an exported model in ONNX Runtime:
//   cudamoe export runs/RUN --to model.onnx --schema model.schema.json
//   npm install && node predict.mjs model.onnx model.schema.json rows.csv > predictions.csv
// The first line of the file names the columns; fields have no quotes.
import { readFileSync } from 'node:fs';
import * as ort from 'onnxruntime-node';
import { encode } from './encode.mjs';

const [model, schemaFile, data, batch = '4096'] = process.argv.slice(2);
const schema = JSON.parse(readFileSync(schemaFile, 'utf8'));
const [header, ...lines] = readFileSync(data, 'utf8').split(/\r?\n/).filter((line) => line.length > 0);
const columns = header.split(',').map((name) => name.trim());
const session = await ort.InferenceSession.create(model);
const outputs = schema.outputs.filter((output) => ['probability', 'conditional', 'value', 'probabilities'].includes(output.kind));
console.log(outputs.flatMap((output) => output.classes?.map((name) => `${output.task}=${name}`) ?? [output.name]).join(','));
for (let first = 0; first < lines.length; first += Number(batch)) {
  const rows = lines.slice(first, first + Number(batch)).map((line) => {
    const fields = line.split(',');
    return Object.fromEntries(columns.map((column, i) => [column, fields[i]]));
  });
  const results = await session.run(encode(schema, rows, ort.Tensor), outputs.map((output) => output.name));
  rows.forEach((_, row) => console.log(outputs.flatMap(({ name, shape: [, width] }) => [...results[name].data.slice(row * width, (row + 1) * width)]).join(',')));
}
