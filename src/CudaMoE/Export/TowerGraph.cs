using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Export;

/// <summary>A tower a task, and the outputs that users read.</summary>
internal sealed class TowerGraph(ExportContext context)
{
    private readonly OnnxGraph _graph = context.Graph;

    /// <summary>The outputs of all tasks, in order.</summary>
    public static IEnumerable<ExportOutput> Outputs(FittedEncoders encoders)
    {
        foreach (FittedTask task in encoders.Tasks)
        {
            switch (task.Description.Type)
            {
                case TaskType.Binary:
                    yield return ExportOutput.Of(task, "logit", 1);
                    yield return ExportOutput.Of(task, "probability", 1);
                    if (task.Description.Given is not null)
                        yield return ExportOutput.Of(task, "conditional", 1);
                    break;
                case TaskType.Regression:
                    yield return ExportOutput.Of(task, "value", 1);
                    break;
                default:
                    yield return ExportOutput.Of(task, "logits", task.Outputs);
                    yield return ExportOutput.Of(task, "probabilities", task.Outputs);
                    break;
            }
        }
    }

    /// <summary>Adds towers and outputs.</summary>
    /// <param name="inputs">[rows, width] that each task's tower reads.</param>
    /// <param name="width">Its width.</param>
    public void Build(string[] inputs, long width)
    {
        LayerGraph layers = new(context);
        IReadOnlyList<FittedTask> tasks = context.Encoders.Tasks;
        string[] towers = new string[tasks.Count];
        for (int t = 0; t < towers.Length; t++)
        {
            string name = tasks[t].Description.Name;
            _graph.Scope = $"towers.{name}";
            towers[t] = layers.Network(inputs[t], $"towers.{name}", width, [.. context.Architecture.Tower, tasks[t].Outputs], activateLast: false);
        }

        string[] logits = Joint(towers);
        for (int t = 0; t < towers.Length; t++)
        {
            _graph.Scope = $"towers.{tasks[t].Description.Name}";
            AddOutputs(tasks[t], logits[t], towers[t]);
        }
    }

    private void AddOutputs(FittedTask task, string logits, string tower)
    {
        string name = task.Description.Name;
        switch (task.Description.Type)
        {
            case TaskType.Binary:
                Output($"{name}.logit", logits, 1);
                Output($"{name}.probability", _graph.Add("Sigmoid", [logits]), 1);
                if (task.Description.Given is not null)
                    Output($"{name}.conditional", _graph.Add("Sigmoid", [tower]), 1);
                break;
            case TaskType.Regression:
                Output($"{name}.value", Restored(task, logits), 1);
                break;
            default:
                Output($"{name}.logits", logits, task.Outputs);
                Output($"{name}.probabilities", _graph.Add("Softmax", [logits], ("axis", -1)), task.Outputs);
                break;
        }
    }

    /// <summary>The number in the label's own unit, computed in f64 as the engine does.</summary>
    private string Restored(FittedTask task, string value)
    {
        if (task.Description.Transform == LabelTransform.None)
            return value;
        string x = _graph.Add("Cast", [value], ("to", (int)OnnxType.Double));
        x = task.Description.Transform == LabelTransform.Log
            ? _graph.Add("Sub", [_graph.Add("Exp", [x]), _graph.Doubles([1])])
            : _graph.Add("Add", [_graph.Add("Mul", [x, _graph.Doubles([task.LabelDeviation == 0 ? 1 : task.LabelDeviation])]), _graph.Doubles([task.LabelMean])]);
        return _graph.Add("Cast", [x], ("to", (int)OnnxType.Float));
    }

    /// <summary>
    /// The logits of tasks with a given one: of the product of both probabilities, whose logit is -log(e^-a + e^-b + e^(-a-b)) (ESMM, Ma et al., SIGIR 2018).
    /// </summary>
    private string[] Joint(string[] towers)
    {
        List<string> names = [.. context.Description.Tasks.Select(task => task.Name)];
        string?[] joint = new string?[towers.Length];
        _graph.Scope = "joint";
        return [.. Enumerable.Range(0, towers.Length).Select(Logits)];

        string Logits(int task)
        {
            if (joint[task] is { } known)
                return known;
            if (context.Description.Tasks[task].Given is not { } given)
                return joint[task] = towers[task];
            string a = towers[task];
            string b = Logits(names.IndexOf(given));
            string terms = _graph.Add("Neg", [_graph.Add("Concat", [a, b, _graph.Add("Add", [a, b])], ("axis", 1))]);
            string log = _graph.Add("ReduceLogSumExp", [terms], ("axes", new long[] { 1 }), ("keepdims", 1));
            return joint[task] = _graph.Add("Neg", [log]);
        }
    }

    private void Output(string name, string value, int width) => _graph.Output(value, name, OnnxType.Float, OnnxDimension.Batch, width);
}
