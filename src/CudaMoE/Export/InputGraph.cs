using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Export;

/// <summary>
/// The inputs, a value a feature, and what is made of them: the feature row (embeddings in the order of the features, then numbers), normalisation,
/// projection.
/// </summary>
internal sealed class InputGraph
{
    private readonly ExportContext _context;
    private readonly OnnxGraph _graph;
    private readonly NumberGraph _numbers;
    private readonly List<ExportInput> _inputs = [];

    public InputGraph(ExportContext context)
    {
        _context = context;
        _graph = context.Graph;
        _numbers = new(context);
    }

    /// <summary>What users pass, in the order of the features.</summary>
    public IReadOnlyList<ExportInput> Inputs => _inputs;

    /// <summary>Adds the inputs and the trunk's input, [rows, <paramref name="width"/>].</summary>
    public string Build(out long width)
    {
        string x = Rows([""], out width)[0];
        if (_context.Architecture.LayerNorm)
            x = Normalize(x, width);
        if (_context.Architecture.Projection is not { } projection)
            return x;
        _graph.Scope = "projection";
        x = new LayerGraph(_context).Network(x, "projection", width, [projection]);
        width = projection;
        return x;
    }

    /// <summary>Adds the inputs and a feature row for each unit with tables of its own, [rows, units, <paramref name="width"/>].</summary>
    public string BuildUnits(IReadOnlyList<string> units, out long width)
    {
        string[] rows = Rows([.. units.Select(unit => $"{unit}.")], out width);
        return Concat([.. rows.Select(row => _graph.Add("Unsqueeze", [row, _graph.Integers(1)]))], axis: 1);
    }

    /// <summary>Adds the inputs and a row [rows, <paramref name="width"/>] for each set of tables; a set's name stands before its tables'.</summary>
    private string[] Rows(IReadOnlyList<string> sets, out long width)
    {
        BatchLayout layout = _context.Encoders.Layout;
        long embedded = layout.Sparse.Sum(input => input.Width);
        width = embedded + layout.DenseWidth;
        string[] names = [.. _context.Encoders.Features.Select(AddInput)];
        _graph.Scope = "features";
        string?[] ids = Ids(names);
        string[] numbers = [.. _numbers.Columns(names)];
        string[] rows = new string[sets.Count];
        for (int set = 0; set < rows.Length; set++)
        {
            List<string> parts = Embeddings(ids, sets[set]);
            // Embeddings are [rows, 1, width], since ids are [rows, 1]; numbers are [rows, width].
            rows[set] = Concat(parts.Count == 0 ? [.. numbers] : [Reshape(Concat(parts, axis: 2), embedded), .. numbers], axis: 1);
        }

        return rows;
    }

    private string AddInput(FittedFeature feature)
    {
        ExportInput input = ExportInput.Of(feature, _context.Encoders, _context.Options.Texts);
        if (!_graph.Claim(input.Name))
            throw new ExportException($"the exported model would have two values called \"{input.Name}\"; rename the feature or the task");
        _inputs.Add(input);
        OnnxDimension[] shape = input.Shape is [_, < 0]
            ? [OnnxDimension.Batch, $"{input.Name}.length"]
            : [OnnxDimension.Batch, input.Shape[1]];
        return _graph.Input(input.Name, input.ElementType, shape);
    }

    private List<string> Embeddings(string?[] ids, string set)
    {
        List<string> parts = [];
        for (int i = 0, sparse = 0; i < ids.Length; i++)
        {
            if (ids[i] is not { } id)
                continue;
            SparseInput input = _context.Encoders.Layout.Sparse[sparse++];
            string table = _graph.Tensor(_context.Weights.Tensor($"embeddings.{set}{input.Table}.weight", input.Rows, input.Dimension));
            parts.Add(input.MultiHot ? Bag(input, table, id) : Gather(table, id));
        }

        return parts;
    }

    /// <summary>Ids of each embedded feature: [rows, 1], or [rows, places] of lists, which may hold ids that are not in their table. Null for the others.</summary>
    private string?[] Ids(string[] names)
    {
        Dictionary<int, string> single = SingleIds(names);
        return [.. names.Select((name, i) => _context.Encoders.Features[i].Table is null ? null : single.TryGetValue(i, out string? id) ? id : TextIds(i, name))];
    }

    /// <summary>Ids [rows, 1] of the features with one id a sample. Those that come from outside are brought into their tables all at once.</summary>
    private Dictionary<int, string> SingleIds(string[] names)
    {
        Dictionary<int, string> ids = [];
        List<int> given = [];
        for (int i = 0; i < names.Length; i++)
        {
            FittedFeature feature = _context.Encoders.Features[i];
            if (feature.Description.Type == FeatureType.Categorical)
                given.Add(i);
            else if (feature is { Description.Type: FeatureType.Dense, Table: not null })
                ids.Add(i, _numbers.Bucket(feature, names[i]));
        }

        if (given.Count == 0)
            return ids;
        long[] rows = [.. given.Select(i => (long)_context.Encoders.Tables.First(table => table.Name == _context.Encoders.Features[i].Table).Rows)];
        string known = Known(Concat([.. given.Select(i => TextIds(i, names[i]))], axis: 1), rows);
        string[] split = given.Count == 1 ? [known] : _graph.AddMany("Split", given.Count, [known], ("axis", 1));
        for (int i = 0; i < split.Length; i++)
            ids.Add(given[i], split[i]);
        return ids;
    }

    /// <summary>Ids, with 0 (the unknown value) in place of those that are not rows of their column's table.</summary>
    private string Known(string ids, params long[] rows)
    {
        string zero = _graph.Integer(0);
        string limits = rows.Length == 1 ? _graph.Integer(rows[0]) : _graph.Integers(rows);
        string inside = _graph.Add("And", [_graph.Add("GreaterOrEqual", [ids, zero]), _graph.Add("Less", [ids, limits])]);
        return _graph.Add("Where", [inside, ids, zero]);
    }

    /// <summary>A bag's or sequence's part of the row, [rows, 1, width]; ids below 0 are places without a value.</summary>
    private string Bag(SparseInput input, string table, string ids)
    {
        // [rows, places, 1]: 1 where there is a value.
        string filled = _graph.Add("Cast", [_graph.Add("GreaterOrEqual", [ids, _graph.Integer(0)])], ("to", (int)OnnxType.Float));
        string places = _graph.Add("Unsqueeze", [filled, _graph.Integers(2)]);
        string rows = _graph.Add("Mul", [Gather(table, Known(ids, input.Rows)), places]);
        if (input.Positions > 0)
            return _graph.Add("Reshape", [rows, _graph.Integers(0, 1, input.Width)]);
        string sum = _graph.Add("ReduceSum", [rows, _graph.Integers(1)], ("keepdims", 1));
        if (input.Pooling == PoolingKind.Sum)
            return sum;
        string count = _graph.Add("ReduceSum", [places, _graph.Integers(1)], ("keepdims", 1));
        return _graph.Add("Div", [sum, _graph.Add("Max", [count, _graph.Numbers([1])])]);
    }

    /// <summary>Ids of a feature that is passed as text, by its vocabulary; else the input itself. Missing texts of a bag become -1, no value.</summary>
    private string TextIds(int feature, string name)
    {
        ExportInput input = _inputs[feature];
        if (input.ElementType != OnnxType.String)
            return name;
        FittedTable table = _context.Encoders.Tables.First(table => table.Name == input.Table);
        List<string> texts = [.. table.Vocabulary!];
        List<long> ids = [.. Enumerable.Range(1, texts.Count).Select(id => (long)id)];
        if (FeatureRules.IsList(_context.Encoders.Features[feature].Description))
        {
            foreach (string missing in _context.Encoders.Format.Missing.Append("").Distinct().Except(table.Vocabulary!))
            {
                texts.Add(missing);
                ids.Add(-1);
            }
        }

        // The operator needs a key; no field of a file holds this one.
        if (texts.Count == 0)
            (texts, ids) = (["\0"], [0]);
        return _graph.AddText("LabelEncoder", name, ("keys_strings", texts.ToArray()), ("values_int64s", ids.ToArray()), ("default_int64", 0));
    }

    private string Normalize(string x, long width)
    {
        _graph.Scope = "norm";
        return _graph.Add(
            "LayerNormalization",
            [x, _graph.Tensor(_context.Weights.Tensor("norm.weight", width)), _graph.Tensor(_context.Weights.Tensor("norm.bias", width))],
            ("axis", -1),
            ("epsilon", 1e-5f));
    }

    private string Gather(string table, string ids) => _graph.Add("Gather", [table, ids], ("axis", 0));

    private string Concat(List<string> parts, int axis) => parts.Count == 1 ? parts[0] : _graph.Add("Concat", [.. parts], ("axis", axis));

    private string Reshape(string x, long width) => _graph.Add("Reshape", [x, _graph.Integers(0, width)]);
}
