// The parts of Chart.js that the report draws with, as one global.
import {
  BarController, BarElement, CategoryScale, Chart, Legend, LinearScale, LineController, LineElement, LogarithmicScale,
  PointElement, ScatterController, Tooltip,
} from 'chart.js';

Chart.register(
  BarController, BarElement, CategoryScale, Legend, LinearScale, LineController, LineElement, LogarithmicScale, PointElement,
  ScatterController, Tooltip);

globalThis.Chart = Chart;
