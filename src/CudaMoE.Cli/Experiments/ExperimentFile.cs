using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using CudaMoE.Description;

namespace CudaMoE.Cli.Experiments;

/// <summary>A matrix of runs: every model with every balancer and every seed.</summary>
internal sealed record ExperimentFile
{
    private static readonly JsonDocumentOptions Lenient = new() { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true };

    /// <summary>Its name, for the titles.</summary>
    public required string Name { get; init; }

    /// <summary>The model files, relative to this one, with keys that are replaced in each.</summary>
    public required IReadOnlyList<ExperimentModel> Models { get; init; }

    /// <summary>The balancers, as in a model file; none = each model's own.</summary>
    public IReadOnlyList<JsonObject> Balancers { get; set; } = [];

    /// <summary>The seeds; none = each model's own.</summary>
    public IReadOnlyList<ulong> Seeds { get; set; } = [];

    /// <summary>Keys that are replaced in every model file.</summary>
    public JsonObject? Set { get; init; }

    /// <summary>Name of the model that the others are compared with, e.g. the single-task one. It runs with its own balancer only.</summary>
    public string? Baseline { get; init; }

    /// <summary>Reads an experiment file.</summary>
    /// <exception cref="UsageException">The file is missing or wrong.</exception>
    public static ExperimentFile Load(string path)
    {
        if (!File.Exists(path))
            throw new UsageException($"there is no experiment file {path}");
        ExperimentFile file;
        try
        {
            JsonNode? root = JsonNode.Parse(File.ReadAllText(path), documentOptions: Lenient);
            file = root.Deserialize(ExperimentJson.Default.ExperimentFile) ?? throw new JsonException("it holds nothing");
        }
        catch (JsonException e)
        {
            throw new UsageException($"{path}: {e.Message}");
        }

        file.Check(path);
        return file;
    }

    /// <summary>All cells in the order in which they run: seed after seed, so that every model has its first result early.</summary>
    /// <param name="path">The file, where relative paths start.</param>
    /// <exception cref="DescriptionException">A model file is wrong, or is wrong with what is replaced in it.</exception>
    public IReadOnlyList<ExperimentCell> Cells(string path)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        List<ExperimentCell> cells = [];
        IEnumerable<ulong?> seeds = Seeds.Count == 0 ? [null] : Seeds.Select(seed => (ulong?)seed);
        foreach (ulong? seed in seeds)
        {
            foreach (ExperimentModel model in Models)
            {
                string file = Path.GetFullPath(model.File, folder);
                IEnumerable<JsonObject?> balancers = Balancers.Count == 0 || model.Name == Baseline ? [null] : (IEnumerable<JsonObject?>)Balancers;
                foreach (JsonObject? balancer in balancers)
                    cells.Add(Cell(model, file, balancer, seed));
            }
        }

        string[] names = [.. cells[0].Model.Tasks.Select(task => task.Name)];
        foreach (ExperimentCell cell in cells)
        {
            if (!cell.Model.Tasks.Select(task => task.Name).SequenceEqual(names))
                throw new UsageException($"{path}: model {cell.ModelName} has the tasks {string.Join(", ", cell.Model.Tasks.Select(task => task.Name))}, but {cells[0].ModelName} has {string.Join(", ", names)}; they must be the same");
        }

        if (cells.GroupBy(cell => cell.Name).FirstOrDefault(group => group.Count() > 1) is { } twice)
            throw new UsageException($"{path}: {twice.Key} is in it twice; give balancers that differ in type only once, or a \"name\" each");
        return cells;
    }

    private ExperimentCell Cell(ExperimentModel model, string file, JsonObject? balancer, ulong? seed)
    {
        List<KeyValuePair<string, string>> overrides = [];
        Add(Set);
        Add(model.Set);
        string? label = null;
        if (balancer is not null)
        {
            JsonObject given = balancer.DeepClone().AsObject();
            label = (string?)given["name"] ?? (string?)given["type"];
            given.Remove("name");
            overrides.Add(new("training.balancer", given.ToJsonString()));
        }

        if (seed is { } value)
            overrides.Add(new("training.seed", value.ToString(System.Globalization.CultureInfo.InvariantCulture)));
        ModelDescription description = ModelFile.Load(file, overrides);
        label ??= JsonNamingPolicy.SnakeCaseLower.ConvertName(description.Training.Balancer.Type.ToString());
        return new(model.Name, label, description, Path.GetDirectoryName(file)!);

        void Add(JsonObject? replaced)
        {
            foreach ((string key, JsonNode? node) in replaced ?? [])
                overrides.Add(new(key, node?.ToJsonString() ?? "null"));
        }
    }

    private void Check(string path)
    {
        if (Models.Count == 0)
            throw new UsageException($"{path}: models is empty; it must name at least one model file");
        foreach (string name in Models.Select(model => model.Name).Concat(Balancers.Select(BalancerName)))
        {
            if (name.Length is 0 or > 60 || !name.All(letter => char.IsAsciiLetterOrDigit(letter) || letter is '-' or '_' or '.') || name[0] == '.')
                throw new UsageException($"{path}: \"{name}\" is no name; it must be 1 to 60 letters, digits, '-', '_' and '.', and not begin with '.'");
        }

        if (Models.GroupBy(model => model.Name).FirstOrDefault(group => group.Count() > 1) is { } twice)
            throw new UsageException($"{path}: there are {twice.Count()} models of the name {twice.Key}");
        if (Seeds.Distinct().Count() != Seeds.Count)
            throw new UsageException($"{path}: a seed is in the list twice");
        if (Baseline is not null && Models.All(model => model.Name != Baseline))
            throw new UsageException($"{path}: baseline is \"{Baseline}\"; there is no model of that name");

        string BalancerName(JsonObject balancer) =>
            (string?)balancer["name"] ?? (string?)balancer["type"] ?? throw new UsageException($"{path}: a balancer has no type");
    }
}

/// <summary>A model of an experiment.</summary>
internal sealed record ExperimentModel
{
    /// <summary>Its name in the tables and folders.</summary>
    public required string Name { get; init; }

    /// <summary>The model file.</summary>
    public required string File { get; init; }

    /// <summary>Keys that are replaced in it, by path as with <c>train --set</c>.</summary>
    public JsonObject? Set { get; init; }
}

/// <summary>One run of the matrix.</summary>
internal sealed record ExperimentCell(string ModelName, string Balancer, ModelDescription Model, string ModelFolder)
{
    /// <summary>The seed.</summary>
    public ulong Seed => Model.Training.Seed;

    /// <summary>The folder's name.</summary>
    public string Name => $"{ModelName}--{Balancer}--{Seed}";
}

/// <summary>What a finished cell left, in its <c>cell.json</c>.</summary>
internal sealed record CellResult
{
    public required string Model { get; init; }

    public required string Balancer { get; init; }

    public required ulong Seed { get; init; }

    /// <summary>"completed", "early_stopped" or "failed".</summary>
    public required string Status { get; init; }

    /// <summary>Why it failed.</summary>
    public string? Message { get; init; }

    public string? RunFolder { get; init; }

    public long Parameters { get; init; }

    /// <summary>Training rows a second, the mean of the epochs.</summary>
    public double SamplesPerSecond { get; init; }

    public IReadOnlyList<Training.TaskMetrics> Test { get; set; } = [];

    /// <summary>How the tasks' gradients lay to each other over the run; empty when it looked at none.</summary>
    public IReadOnlyList<Training.TaskPair> Pairs { get; set; } = [];
}

/// <summary>Source-generated serialisation of experiments.</summary>
[JsonSourceGenerationOptions(
    WriteIndented = true,
    NewLine = "\n",
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    RespectRequiredConstructorParameters = true,
    RespectNullableAnnotations = true,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals)]
[JsonSerializable(typeof(ExperimentFile))]
[JsonSerializable(typeof(CellResult))]
internal sealed partial class ExperimentJson : JsonSerializerContext;
