using System.Globalization;

namespace CudaMoE.Training;

/// <summary>
/// The sections of the report. Facts, tables and the gates' heat map are plain HTML, readable without scripts; charts are figures that
/// report.js fills, each with a sentence that says what it shows.
/// </summary>
internal static class RunReportSections
{
    public static void Write(HtmlText page, RunReportModel model, IReadOnlyList<TaskTransfer> transfer)
    {
        WriteHeader(page, model);
        page.Raw("<main>\n<noscript><p class=\"note\">Scripts are off, so the tables are shown without the charts.</p></noscript>\n");
        WriteTest(page, model);
        WriteTransfer(page, transfer);
        WriteCurves(page, model);
        WriteCalibration(page, model);
        WriteGates(page, model);
        WriteLoad(page, model);
        WriteBalancer(page, model);
        WriteSpeed(page, model);
        WriteCheckpoints(page, model);
        page.Raw("</main>\n<footer>Made by CudaMoE ").Text(model.Started.Version)
            .Raw(" from the run's <code>metrics.jsonl</code>. Charts: Chart.js (MIT; notice in this file).</footer>\n");
    }

    private static void WriteHeader(HtmlText page, RunReportModel model)
    {
        RunStartedEvent run = model.Started;
        (string mark, string state) = Status(model);
        page.Raw("<header>\n<h1>").Text(run.Name).Raw($"</h1>\n<p class=\"status {mark}\">").Text(state).Raw("</p>\n<dl class=\"facts\">\n");
        Fact(page, "Model", run.Experts > 0 ? $"{run.Architecture}, {run.Experts} experts" : run.Architecture);
        Fact(page, "Parameters", $"{HtmlText.Count(run.DenseParameters)} dense, {HtmlText.Count(run.EmbeddingParameters)} embedding");
        Fact(page, "Rows", $"{HtmlText.Count(run.TrainRows)} train, {HtmlText.Count(run.ValidationRows)} validation, {HtmlText.Count(run.TestRows)} test");
        Fact(page, "Batch", $"{HtmlText.Count(run.BatchSize)} rows, {HtmlText.Count(run.StepsPerEpoch)} steps an epoch, at most {run.Epochs} epochs");
        Fact(page, "Balancer", $"{run.Balancer} at the {run.BalancerPlace.Replace('_', ' ')}");
        RunResumedEvent? last = model.Resumes.LastOrDefault();
        Fact(page, "Device", $"{last?.Device ?? run.Device}, {last?.Level ?? run.Level}, {last?.Threads ?? run.Threads} threads");
        Fact(page, "Seed", run.Seed.ToString(CultureInfo.InvariantCulture));
        Fact(page, "Steps done", HtmlText.Count(model.LastStep));
        if (run.Time is { } time)
            Fact(page, "Started", time.ToString("yyyy-MM-dd HH:mm:ss 'UTC'", CultureInfo.InvariantCulture));
        if (model.Resumes.Count > 0)
            Fact(page, "Resumed", $"after step {string.Join(", ", model.Resumes.Select(r => HtmlText.Count(r.Step)))}");
        page.Raw("</dl>\n</header>\n");
    }

    private static (string Mark, string Text) Status(RunReportModel model)
    {
        if (model.Ended is not { } ended)
            return ("open", "Not ended: still running, or killed");
        string seconds = $"after {HtmlText.Duration(ended.Seconds)}";
        string message = ended.Message is null ? "" : $": {ended.Message}";
        return ended.Status switch
        {
            RunStatus.Completed => ("good", $"Completed {seconds}{message}"),
            RunStatus.EarlyStopped => ("good", $"Stopped early {seconds}{message}"),
            RunStatus.Cancelled => ("open", $"Cancelled {seconds}{message}"),
            _ => ("bad", $"Failed {seconds}{message}"),
        };
    }

    private static void Fact(HtmlText page, string name, string value) =>
        page.Raw("<div><dt>").Text(name).Raw("</dt><dd>").Text(value).Raw("</dd></div>\n");

    private static void WriteTest(HtmlText page, RunReportModel model)
    {
        Open(page, "test", "Test");
        if (model.Test is { } test)
        {
            page.Raw($"<p>Metrics of the weights of epoch {test.Epoch} on the test rows.</p>\n");
            WriteMetrics(page, test.Metrics);
        }
        else
        {
            Missing(page, model.Started.TestRows == 0 ? "This run has no test rows." : "The run has not been tested.");
        }

        Close(page);
    }

    private static void WriteTransfer(HtmlText page, IReadOnlyList<TaskTransfer> transfer)
    {
        if (transfer.Count == 0)
            return;
        Open(page, "transfer", "Tasks beside single-task runs");
        RunReportTransfer.Write(page, transfer);
        Close(page);
    }

    private static void WriteMetrics(HtmlText page, IReadOnlyList<TaskMetrics> tasks)
    {
        string[] names = [.. tasks.SelectMany(t => t.Metrics.Select(m => m.Name)).Distinct()];
        page.Raw("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Metrics\"><table>\n<thead><tr><th scope=\"col\">Task</th><th scope=\"col\" class=\"number\">Rows</th>");
        foreach (string name in names)
            page.Raw("<th scope=\"col\" class=\"number\">").Text(HtmlText.MetricLabel(name)).Raw("</th>");
        page.Raw("</tr></thead>\n<tbody>\n");
        foreach (TaskMetrics task in tasks)
        {
            page.Raw("<tr><th scope=\"row\">").Text(task.Task).Raw("</th><td class=\"number\">").Text(HtmlText.Count(task.Rows)).Raw("</td>");
            foreach (string name in names)
                WriteMetric(page, task.Metrics.FirstOrDefault(m => m.Name == name));
            page.Raw("</tr>\n");
        }

        page.Raw("</tbody></table></div>\n");
        string[] reasons =
        [
            .. tasks.SelectMany(t => t.Metrics.Where(m => m.Value is null).Select(m => (t.Task, m.Name, Reason: m.Undefined ?? "no reason was logged")))
                .GroupBy(u => (u.Name, u.Reason))
                .Select(g => $"{HtmlText.MetricLabel(g.Key.Name)} of {string.Join(", ", g.Select(u => u.Task))}: {g.Key.Reason}"),
        ];
        if (reasons.Length == 0)
            return;
        page.Raw("<details class=\"note\" open><summary>Undefined metrics</summary><ul>");
        foreach (string reason in reasons)
            page.Raw("<li>").Text(reason).Raw("</li>");
        page.Raw("</ul></details>\n");
    }

    private static void WriteMetric(HtmlText page, MetricValue? metric)
    {
        if (metric is null)
            page.Raw("<td class=\"number none\"><span aria-label=\"not a metric of this task\">\u2013</span></td>");
        else if (metric.Value is { } value)
            page.Raw("<td class=\"number\">").Text(HtmlText.Number(value)).Raw("</td>");
        else
            page.Raw("<td class=\"number none\" title=\"").Text(metric.Undefined ?? "").Raw("\">undefined</td>");
    }

    private static void WriteCurves(HtmlText page, RunReportModel model)
    {
        Open(page, "curves", "Curves per task");
        if (model.Steps.Count == 0 && model.Epochs.Count == 0)
        {
            Missing(page, "No step has been logged.");
        }
        else
        {
            page.Raw("<p>Training loss over the steps (thin: logged batches; with points: mean of an epoch) and a validation metric after each epoch.");
            page.Raw(" <label>Metric: <select id=\"metric\"></select></label></p>\n<div class=\"grid\">\n");
            for (int task = 0; task < model.Started.Tasks.Count; task++)
            {
                page.Raw("<article class=\"card\"><h3>").Text(model.Started.Tasks[task]).Raw("</h3>\n");
                Chart(page, "loss", $"Training loss of {model.Started.Tasks[task]} over the steps", task);
                Chart(page, "metric", $"Validation metric of {model.Started.Tasks[task]} over the epochs", task);
                page.Raw("</article>\n");
            }

            page.Raw("</div>\n");
            if (model.Epochs.LastOrDefault(e => e.Validation.Count > 0) is { } last)
            {
                page.Raw($"<details><summary>Validation metrics of the last epoch ({last.Epoch})</summary>\n");
                WriteMetrics(page, last.Validation);
                page.Raw("</details>\n");
            }
        }

        Close(page);
    }

    private static void WriteCalibration(HtmlText page, RunReportModel model)
    {
        Open(page, "calibration", "Calibration");
        if (model.Calibration is { Tasks.Count: > 0 } calibration)
        {
            page.Raw("<p>Mean label against mean prediction in bins of the ").Text(calibration.Split)
                .Raw(" rows; on the diagonal, predictions are right on average. Larger points hold more rows.</p>\n<div class=\"grid\">\n");
            for (int i = 0; i < calibration.Tasks.Count; i++)
            {
                TaskCalibration task = calibration.Tasks[i];
                page.Raw("<article class=\"card\"><h3>").Text(task.Task).Raw("</h3>\n");
                if (task.Bins.Count == 0)
                    Missing(page, "Undefined: no rows were measured.");
                else
                    Chart(page, "calibration", $"Calibration of {task.Task}", i);
                page.Raw("</article>\n");
            }

            page.Raw("</div>\n");
        }
        else
        {
            Missing(page, "No calibration has been logged.");
        }

        Close(page);
    }

    private static void WriteGates(HtmlText page, RunReportModel model)
    {
        Open(page, "gates", "Gate weights");
        if (model.Gates.Count == 0)
            Missing(page, model.Started.Experts == 0 ? "This model has no experts." : "No gates have been logged.");
        foreach (GatesEvent gates in model.Gates)
        {
            page.Raw("<p>Mean weight that each gate gives to each expert on the ").Text(gates.Split).Raw(" rows (").Text(gates.Layer).Raw(").</p>\n");
            WriteHeatMap(page, gates);
        }

        Close(page);
    }

    private static void WriteHeatMap(HtmlText page, GatesEvent gates)
    {
        double largest = gates.MeanWeights.Where(double.IsFinite).DefaultIfEmpty(0).Max();
        page.Raw("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Gate weights\"><table class=\"heat\">\n<thead><tr><th scope=\"col\">Gate</th>");
        for (int expert = 0; expert < gates.Experts; expert++)
            page.Raw($"<th scope=\"col\">{expert}</th>");
        page.Raw("</tr></thead>\n<tbody>\n");
        for (int gate = 0; gate < gates.Gates.Count; gate++)
        {
            page.Raw("<tr><th scope=\"row\">").Text(gates.Gates[gate]).Raw("</th>");
            for (int expert = 0; expert < gates.Experts; expert++)
                WriteHeat(page, gates.MeanWeights[(gate * gates.Experts) + expert], largest);
            page.Raw("</tr>\n");
        }

        page.Raw("</tbody></table></div>\n");
    }

    private static void WriteHeat(HtmlText page, double weight, double largest)
    {
        if (!double.IsFinite(weight))
        {
            page.Raw("<td class=\"none\">undefined</td>");
            return;
        }

        double share = largest > 0 ? Math.Clamp(weight / largest, 0, 1) : 0;
        page.Raw(string.Create(CultureInfo.InvariantCulture, $"<td class=\"{(share > 0.745 ? "high" : "low")}\" style=\"--heat:{share * 100:0}%\">{weight:0.000}</td>"));
    }

    private static void WriteLoad(HtmlText page, RunReportModel model)
    {
        Open(page, "load", "Expert load");
        bool overTime = model.Steps.Exists(s => s.ExpertLoad is not null);
        if (model.Gates.Count == 0 && !overTime)
        {
            Missing(page, model.Started.Experts == 0 ? "This model has no experts." : "No expert load has been logged.");
        }
        else
        {
            page.Raw("<p>Share of the routed pairs of sample and expert (of the gate weight, in a dense mixture) that each expert gets; the line marks equal shares.</p>\n<div class=\"grid wide\">\n");
            for (int i = 0; i < model.Gates.Count; i++)
                Figure(page, "load", $"Load on the {model.Gates[i].Split} rows ({model.Gates[i].Layer})", i);
            if (overTime)
                Figure(page, "load-steps", "Load of each expert over the training steps");
            if (model.Steps.Exists(s => s.DroppedRows is not null))
                Figure(page, "dropped", "Pairs dropped for lack of capacity, a step");
            page.Raw("</div>\n");
        }

        Close(page);
    }

    private static void WriteBalancer(HtmlText page, RunReportModel model)
    {
        Open(page, "balancer", "Balancer");
        if (model.Steps.Count == 0)
        {
            Missing(page, "No step has been logged.");
        }
        else
        {
            page.Raw("<p>").Text(model.Started.Balancer).Raw(" on the gradients of the tasks at the ").Text(model.Started.BalancerPlace.Replace('_', ' ')).Raw(".</p>\n<div class=\"grid wide\">\n");
            Figure(page, "weights", "Weight of each task in the combined gradient");
            if (model.Steps.Exists(s => s.Lambda is not null))
                Figure(page, "lambda", "The balancer's own variables");
            if (model.Steps.Exists(s => s.GradientNorms is not null))
                Figure(page, "norms", "Norm of each task's gradient on the shared representation");
            if (model.Started.Tasks.Count > 1 && model.Steps.Exists(s => s.Cosines is not null))
            {
                int pairs = model.Started.Tasks.Count * (model.Started.Tasks.Count - 1) / 2;
                string which = pairs > RunReportSeries.MaxPairs ? $" (the {RunReportSeries.MaxPairs} pairs of {pairs} that conflict most)" : "";
                Figure(page, "cosines", $"Cosine between the gradients of each pair of tasks{which}; below 0 they conflict");
            }

            page.Raw("</div>\n");
            WritePairs(page, TaskPair.Together(model.Epochs.SelectMany(epoch => epoch.Pairs ?? [])));
        }

        Close(page);
    }

    private static void WritePairs(HtmlText page, IReadOnlyList<TaskPair> pairs)
    {
        if (pairs.Count == 0)
            return;
        page.Raw("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Pairs of tasks\"><table>\n<thead><tr><th scope=\"col\">Pair, the most in conflict first</th>")
            .Raw("<th scope=\"col\" class=\"number\">Mean cosine</th><th scope=\"col\" class=\"number\">Steps below 0</th><th scope=\"col\" class=\"number\">Steps</th></tr></thead>\n<tbody>\n");
        foreach (TaskPair pair in pairs.OrderBy(pair => pair.MeanCosine).Take(RunReportSeries.MaxPairs))
        {
            page.Raw("<tr><th scope=\"row\">").Text($"{pair.First} / {pair.Second}").Raw("</th><td class=\"number\">").Text(HtmlText.Number(pair.MeanCosine)).Raw("</td><td class=\"number\">")
                .Text(HtmlText.Count((long)Math.Round(pair.Conflicts * pair.Steps))).Raw("</td><td class=\"number\">").Text(HtmlText.Count(pair.Steps)).Raw("</td></tr>\n");
        }

        page.Raw("</tbody></table></div>\n");
    }

    private static void WriteSpeed(HtmlText page, RunReportModel model)
    {
        Open(page, "speed", "Speed and learning rate");
        if (model.Steps.Count == 0)
        {
            Missing(page, "No step has been logged.");
        }
        else
        {
            page.Raw("<div class=\"grid wide\">\n");
            Figure(page, "speed", "Training rows a second");
            Figure(page, "rate", "Learning rate of the dense parameters");
            page.Raw("</div>\n");
        }

        Close(page);
    }

    private static void WriteCheckpoints(HtmlText page, RunReportModel model)
    {
        Open(page, "checkpoints", "Checkpoints");
        if (model.Checkpoints.Count == 0)
        {
            Missing(page, "No checkpoint has been written.");
        }
        else
        {
            page.Raw("<details><summary>").Text($"{HtmlText.Count(model.Checkpoints.Count)} written").Raw("</summary><ul>");
            foreach (CheckpointEvent checkpoint in model.Checkpoints)
            {
                page.Raw("<li><code>").Text(checkpoint.Path).Raw("</code> after step ").Text(HtmlText.Count(checkpoint.Step))
                    .Raw(checkpoint.Best ? ", best so far</li>" : "</li>");
            }

            page.Raw("</ul></details>\n");
        }

        Close(page);
    }

    private static void Open(HtmlText page, string id, string title) =>
        page.Raw($"<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{title}</h2>\n");

    private static void Close(HtmlText page) => page.Raw("</section>\n");

    private static void Missing(HtmlText page, string sentence) => page.Raw("<p class=\"missing\">").Text(sentence).Raw("</p>\n");

    private static void Figure(HtmlText page, string kind, string caption, int index = 0)
    {
        page.Raw("<figure class=\"card\"><figcaption>").Text(caption).Raw("</figcaption>\n");
        Chart(page, kind, caption, index);
        page.Raw("</figure>\n");
    }

    private static void Chart(HtmlText page, string kind, string label, int index) =>
        page.Raw($"<div class=\"chart\"><canvas data-chart=\"{kind}\" data-index=\"{index}\" role=\"img\" aria-label=\"").Text(label).Raw("\"></canvas></div>\n");
}
