using CudaMoE.Description;

namespace CudaMoE.Cli.Importing;

/// <summary>
/// Names and shapes of the authors' library of AdaTT (facebookresearch/AdaTT, mtl_lib.py, class CentralTaskArch): a trunk <c>mtl_arch</c> and a tower a task
/// in <c>task_modules</c>. Each expert, gate and tower has tensors of its own there; ours hold all experts, or all gates, of a level. The table is in docs/import.md.
/// </summary>
internal sealed class AdattLayout : ImportLayout
{
    private const string Trunk = "mtl_arch";
    private readonly ArchitectureDescription _architecture;
    private readonly List<string> _tasks;
    private readonly int _own;
    private readonly int _shared;

    /// <param name="description">The model that the tensors are for.</param>
    /// <exception cref="UsageException">The library has no such model.</exception>
    public AdattLayout(ModelDescription description)
    {
        _architecture = description.Architecture;
        _tasks = [.. description.Tasks.Select(task => task.Name)];
        _own = _architecture.Experts?.PerTask ?? 1;
        _shared = _architecture.Experts?.Shared ?? 0;
        ModelType[] types = [ModelType.SharedBottom, ModelType.Mmoe, ModelType.MlMmoe, ModelType.Cgc, ModelType.Ple, ModelType.Adatt, ModelType.CrossStitch];
        if (!types.Contains(_architecture.Type))
            throw Refused("type", ParameterFile.SnakeCase(_architecture.Type), string.Join(", ", types.Select(ParameterFile.SnakeCase)));
        if (_architecture.Activation != ActivationKind.Relu)
            throw Refused("activation", ParameterFile.SnakeCase(_architecture.Activation), "relu");
        if (_architecture.Transfer is not null)
            throw Refused("transfer", "given", "none");
        GateDescription gate = _architecture.Gate;
        if (!gate.Bias)
            throw Refused("gate.bias", "false", "true");
        if (gate.TopK is not null || gate.Score != ScoreMode.SoftmaxTopk)
            throw Refused("gate", "sparse or a sigmoid", "a dense softmax");
        if (gate.Sharing == GateSharing.Shared)
            throw Refused("gate.sharing", "shared", "per_task");
        if (gate.Input == GateInput.Trunk)
            throw Refused("gate.input", "trunk", "unit");
        if (_architecture.Type == ModelType.Adatt && _architecture.Experts!.Native is NativeResidual.Learned or NativeResidual.Unit)
            throw Refused("experts.native", ParameterFile.SnakeCase(_architecture.Experts.Native), "auto, or none for self_exp_res_connect false");
    }

    /// <summary>Embedding tables are not part of the library.</summary>
    public override IReadOnlyList<ImportPiece>? Pieces(ImportTarget target)
    {
        string[] name = target.Name.Split('.');
        string last = name[^1];
        IReadOnlyList<long> shape = target.Shape;
        // Of a layer alone: [out, in] or [out], without the extent of the experts.
        IReadOnlyList<long> layer = last == "weight" ? [.. shape.TakeLast(2)] : [.. shape.TakeLast(1)];
        return name switch
        {
            ["bottom", "layers", var i, _] => [ImportPiece.Whole($"{Trunk}.bottom_projection.mlp_net.{Linear(i)}.{last}", layer)],
            ["experts", "layers", var i, _] => Experts("0", i, last, layer),
            ["levels", var level, "experts", "layers", var i, _] => Experts(level, i, last, layer),
            ["gate", _] => Gates("0", last, shape),
            ["levels", var level, "gate", _] => Gates(level, last, shape),
            ["levels", var level, "native", _] => Native(int.Parse(level), shape),
            ["levels", var level, "native_shared", _] =>
                [ImportPiece.Row($"{Trunk}.self_exp_weights.{_tasks.Count}", [_architecture.Experts!.Levels.Count - 1, _shared], int.Parse(level))],
            ["levels", var level, "stitch", _] => [ImportPiece.Whole($"{Trunk}.stitchs.{level}.weight", shape)],
            _ => name[0] == "towers" ? Tower(target.Name, last, layer) : null,
        };
    }

    // Linear layers and activations take turns in a Sequential.
    private static int Linear(string layer) => 2 * int.Parse(layer);

    private static UsageException Refused(string key, string value, string known) =>
        new($"architecture.{key} is {value}; the layout adatt is that of a library whose models have {known}");

    private IReadOnlyList<ImportPiece> Experts(string level, string layer, string last, IReadOnlyList<long> shape) =>
        [.. Enumerable.Range(0, Count(int.Parse(level))).Select(e => ImportPiece.Whole($"{Trunk}.experts.{level}.{e}.mlp_net.{Linear(layer)}.{last}", shape))];

    private int Count(int level) => _architecture.Type switch
    {
        ModelType.Mmoe or ModelType.MlMmoe => _architecture.Experts!.Count!.Value,
        _ => (_tasks.Count * _own) + _shared,
    };

    private List<ImportPiece> Gates(string level, string last, IReadOnlyList<long> shape)
    {
        bool mixture = _architecture.Type is ModelType.Mmoe or ModelType.MlMmoe;
        bool extracted = _architecture.Type is ModelType.Cgc or ModelType.Ple;
        bool top = _architecture.Type is ModelType.Mmoe or ModelType.Cgc || int.Parse(level) == _architecture.Experts!.Levels.Count - 1;
        int all = Count(int.Parse(level));
        int gates = top ? _tasks.Count : mixture ? all : _tasks.Count + (_shared > 0 ? 1 : 0);
        List<ImportPiece> pieces = [];
        for (int gate = 0; gate < gates; gate++)
        {
            // A task of PLE sees its own and the shared experts, the shared gate all.
            int rows = extracted && gate < _tasks.Count ? _own + _shared : all;
            string name = mixture ? $"{Trunk}.gates.{level}.{gate}.1.{last}" : $"{Trunk}.gate_weights.{level}.{gate}.0.{last}";
            pieces.Add(ImportPiece.Whole(name, [rows, .. shape.Skip(1)]));
        }

        return pieces;
    }

    // AdaTT-sp keeps a matrix [tasks, experts] a level; with a shared unit there is a matrix [levels, experts] a unit.
    private IReadOnlyList<ImportPiece> Native(int level, IReadOnlyList<long> shape) => _shared == 0
        ? [ImportPiece.Whole($"{Trunk}.self_exp_weights.{level}", shape)]
        : [.. _tasks.Select((_, task) => ImportPiece.Row($"{Trunk}.self_exp_weights.{task}", [_architecture.Experts!.Levels.Count, _own], level))];

    private IReadOnlyList<ImportPiece> Tower(string parameter, string last, IReadOnlyList<long> shape)
    {
        int task = _tasks.FindIndex(name => parameter.StartsWith($"towers.{name}.layers.", StringComparison.Ordinal));
        string layer = parameter.Split('.')[^2];
        bool output = int.Parse(layer) == _architecture.Tower.Count;
        return [ImportPiece.Whole(output ? $"task_modules.{task}.1.{last}" : $"task_modules.{task}.0.mlp_net.{Linear(layer)}.{last}", shape)];
    }
}
