using CudaMoE.Description;

namespace CudaMoE.Tests.Description;

/// <summary>Model files of the fusion family: lists of lists, names and their hints, defaults that are written out, and the files of the repository.</summary>
public sealed class FusionDescriptionTests
{
    public static TheoryData<string> ModelFiles { get; } =
        [.. Directory.GetFiles(Path.Combine(Samples.Repository, "models"), "*.json").Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(ModelFiles))]
    public void ModelFile_OfTheRepository_IsValidAndNamedLikeItsFile(string file)
    {
        ModelDescription model = DescriptionJson.Load(Path.Combine(Samples.Repository, "models", file));
        Assert.Equal(Path.GetFileNameWithoutExtension(file), model.Name);
        Assert.Equal(DescriptionJson.Write(model), DescriptionJson.Write(DescriptionJson.Parse(DescriptionJson.Write(model))));
    }

    [Fact]
    public void Parse_Levels_ReadsListsOfLists()
    {
        ModelDescription model = Parse("\"type\": \"adatt\", \"experts\": { \"per_task\": 2, \"levels\": [[8, 4], [3]], \"native\": \"unit\" }, \"gate\": { \"input\": \"trunk\" }");
        ExpertsDescription experts = model.Architecture.Experts!;
        Assert.Equal([8, 4], experts.Levels[0]);
        Assert.Equal([3], experts.Levels[1]);
        Assert.Equal((2, null, null, NativeResidual.Unit), (experts.PerTask!.Value, experts.Shared, experts.Count, experts.Native));
        Assert.Equal(GateInput.Trunk, model.Architecture.Gate.Input);
        Assert.Equal(0.9, model.Architecture.StitchOwnWeight);
    }

    [Theory]
    [InlineData("\"type\": \"addat\"", "\"adatt\"")]
    [InlineData("\"type\": \"adatt\", \"experts\": { \"per_tasks\": 2 }", "\"per_task\"")]
    [InlineData("\"type\": \"adatt\", \"experts\": { \"level\": [[2]] }", "\"levels\"")]
    [InlineData("\"type\": \"adatt\", \"experts\": { \"levels\": [[2]], \"native\": \"learnt\" }", "\"learned\"")]
    [InlineData("\"type\": \"ple\", \"experts\": { \"levels\": [[2]], \"shared\": 1 }, \"gate\": { \"input\": \"units\" }", "\"unit\"")]
    public void Parse_WrongName_NamesTheLineAndSuggestsTheNearest(string architecture, string suggestion)
    {
        DescriptionException error = Assert.Throws<DescriptionException>(() => Parse(architecture));
        Assert.Contains("line ", error.Message, StringComparison.Ordinal);
        Assert.Contains($"did you mean {suggestion}", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("[8, 4]", "architecture.experts.levels[0] is 8; it must be a list")]
    [InlineData("[[8], [\"x\"]]", "architecture.experts.levels[1][0]")]
    [InlineData("[[8], []]", "architecture.experts.levels[1] is empty")]
    [InlineData("[[8], [0]]", "architecture.experts.levels[1][0] is 0; it must be at least 1")]
    [InlineData("[]", "architecture.experts.levels is empty")]
    public void Parse_WrongLevels_NamesTheElement(string levels, string problem)
    {
        DescriptionException error = Assert.Throws<DescriptionException>(() => Parse($"\"type\": \"adatt\", \"experts\": {{ \"levels\": {levels} }}"));
        Assert.Contains(problem, error.Message, StringComparison.Ordinal);
    }

    private static ModelDescription Parse(string architecture) => DescriptionJson.Parse(Samples.Small(architecture: architecture));
}
