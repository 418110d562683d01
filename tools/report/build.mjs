// Bundles chart.js into the file that CudaMoE embeds in its reports, with the licences of what is in it. See README.md.
import { build } from 'esbuild';
import { readFile, writeFile } from 'node:fs/promises';

const output = new URL('../../src/CudaMoE/Training/Report/', import.meta.url);

async function notice(name, licenceFile) {
  const folder = new URL(`node_modules/${name}/`, import.meta.url);
  const { version, homepage, license } = JSON.parse(await readFile(new URL('package.json', folder), 'utf8'));
  const text = await readFile(new URL(licenceFile, folder), 'utf8');
  return `${name} ${version} (${license})${homepage ? ` ${homepage}` : ''}\n\n${text.trim()}\n`;
}

const notices = [await notice('chart.js', 'LICENSE.md'), await notice('@kurkle/color', 'LICENSE.md')].join('\n\n');

const { outputFiles: [bundle] } = await build({
  entryPoints: ['chart.js'],
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2020',
  charset: 'ascii',
  legalComments: 'none',
  write: false,
});
if (/<\/script|<!--/i.test(bundle.text)) throw new Error('the bundle cannot stand inside a script element');

await writeFile(new URL('chart.min.js', output), `/*!\n${notices}*/\n${bundle.text}`);
await writeFile(new URL('chart.LICENSE.txt', output), notices);
console.log(`chart.min.js: ${bundle.text.length} bytes`);
