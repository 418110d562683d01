using System.Globalization;
using CudaMoE.Cli.Rendering;
using CudaMoE.Graphs;
using Spectre.Console;

namespace CudaMoE.Cli.Graphs;

/// <summary>What the graph commands answer with.</summary>
internal static class GraphAnswer
{
    /// <summary>Writes what a graph holds.</summary>
    public static void Write(CliContext context, string path, MacroGraphInfo info, double seconds)
    {
        long bytes = new FileInfo(path).Length;
        if (context.Format == OutputFormat.Json)
        {
            context.WriteJson(new() { File = path, Bytes = bytes, Seconds = seconds, Graph = info }, CliJson.Default.GraphResult);
            return;
        }

        Table table = Texts.NewTable("Side", "#Nodes", "#Macro nodes", "#Used", "#Objective");
        table.AddTexts("users", Texts.Count(info.Users), Texts.Count(info.UserNodes), Texts.Count(info.UsedUserNodes), Texts.Number(info.UserObjective));
        table.AddTexts("items", Texts.Count(info.Items), Texts.Count(info.ItemNodes), Texts.Count(info.UsedItemNodes), Texts.Number(info.ItemObjective));
        context.WriteTable(table);
        Table tasks = Texts.NewTable("Task", "#Value", "#Pairs");
        for (int task = 0; task < info.Tasks.Count; task++)
            tasks.AddTexts(info.Tasks[task], Texts.Count(info.Values[task]), Texts.Count(info.TaskPairs[task]));
        context.WriteTable(tasks);
        context.WriteRaw(string.Create(CultureInfo.InvariantCulture, $"{Texts.Count(info.Interactions)} interactions of {Texts.Count(info.Pairs)} pairs, beta {info.Beta}, tau {info.Tau}, seed {info.Seed}, {info.Updates} updates\n"));
        context.WriteRaw(info.Before is { } before
            ? string.Create(CultureInfo.InvariantCulture, $"rows before time {before} count; {Texts.Count(info.Later)} later ones are left out\n")
            : "no time column: all given interactions count, so leave those that a model is trained or tested on out of the log\n");
        if (info.Ignored > 0)
            context.WriteRaw($"{Texts.Count(info.Ignored)} rows have an event that is no task\n");
        context.WriteRaw($"{path}: {Texts.Bytes(bytes)}, {Texts.Duration(TimeSpan.FromSeconds(seconds))}\n");
    }
}
