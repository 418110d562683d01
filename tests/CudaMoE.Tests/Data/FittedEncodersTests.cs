using System.Text.Json.Nodes;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Data;

/// <summary>Saving and loading encoders, and reading new files with them.</summary>
public sealed class FittedEncodersTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Load_WhatSaveWrote_EncodesAlike()
    {
        Random random = new(8);
        NaiveTable table = new(random, 200);
        _folder.Write("train.csv", table.Text(random));
        string path = _folder["encoders.json"];
        using Dataset data = Dataset.Open(NaiveTable.Description, _folder.Root);
        data.Encoders.Save(path);
        FittedEncoders loaded = FittedEncoders.Load(path);
        Assert.Equal(data.Encoders.Fingerprint, loaded.Fingerprint);
        Assert.Equal(data.Layout.Sparse, loaded.Layout.Sparse);
        Assert.Equal((data.Layout.DenseWidth, data.Layout.Tasks), (loaded.Layout.DenseWidth, loaded.Layout.Tasks));
        using MemoryStream stream = new();
        loaded.Save(stream);
        Assert.Equal(File.ReadAllBytes(path), stream.ToArray());

        using PredictionReader reader = Dataset.OpenForPrediction(loaded, _folder["train.csv"], withLabels: true);
        using Batch batch = new(reader.Layout, 200);
        Assert.True(reader.Read(batch));
        Assert.Equal(table.Encode([.. Enumerable.Range(0, 200)]), NaiveTable.Lines(batch));
        Assert.False(reader.Read(batch));
    }

    [Fact]
    public void Read_NewFileWithoutLabels_KeepsTheOrderOfRows()
    {
        FittedEncoders encoders = Fit();
        _folder.Write("new.csv", "other,c,x\n-,b,1\n-,z,2\n-,,\n-,a,9\n-,b,8\n");
        using PredictionReader reader = Dataset.OpenForPrediction(encoders, _folder["new.csv"]);
        using Batch batch = new(reader.Layout, 3);
        Assert.True(reader.Read(batch));
        Assert.Equal((3, 0), (batch.Rows, batch.Index));
        Assert.Equal([2, 0, 0], batch.Ids(0));
        Assert.Equal([1, 2, 5], batch.Dense);
        Assert.Equal([float.NaN, float.NaN, float.NaN], batch.Labels(0));
        Assert.Equal([1, 1, 1], batch.Weights(0));
        Assert.True(reader.Read(batch));
        Assert.Equal((2, 1), (batch.Rows, batch.Index));
        Assert.Equal([1, 2], batch.Ids(0));
        Assert.Equal([9, 8], batch.Dense);
        Assert.False(reader.Read(batch));
        Assert.Equal(5, reader.Rows);
        Assert.Equal(reader.Length, reader.BytesRead);
        Assert.Throws<DataException>(() => Dataset.OpenForPrediction(encoders, _folder["new.csv"], withLabels: true));
        using PredictionReader tabs = Dataset.OpenForPrediction(
            encoders, _folder.Write("new.tsv", "a\t3\n"), format: encoders.Format with { Separator = "\t", Header = false, Columns = ["c", "x"] });
        Assert.True(tabs.Read(batch));
        Assert.Equal([1], batch.Ids(0));
    }

    [Fact]
    public void OpenForPrediction_ColumnMissingOrRowBroken_IsNamed()
    {
        FittedEncoders encoders = Fit();
        DataException error = Assert.Throws<DataException>(() => Dataset.OpenForPrediction(encoders, _folder.Write("new.csv", "c,xx\na,1\n")));
        Assert.Contains("feature \"x\" needs the column \"x\"", error.Message, StringComparison.Ordinal);
        using PredictionReader reader = Dataset.OpenForPrediction(encoders, _folder.Write("bad.csv", "c,x\na,1\nb,two\n"));
        using Batch batch = new(reader.Layout, 10);
        error = Assert.Throws<DataException>(() => reader.Read(batch));
        Assert.Contains("bad.csv, line 3, column \"x\": \"two\" is not a finite number", error.Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, string> Edits => new()
    {
        { "version", "encoders of version 9; this program reads version 1" },
        { "unknown", "not encoders that this version of CudaMoE wrote" },
        { "absent", "not encoders that this version of CudaMoE wrote" },
        { "cut", "not encoders that this version of CudaMoE wrote" },
        { "empty", "not encoders that this version of CudaMoE wrote" },
        { "null", "encoders of version 0" },
        { "vocabulary", "contradict themselves: table \"c\"" },
        { "rows", "contradict themselves: table \"c\"" },
        { "table", "contradict themselves: feature \"c\"" },
        { "enum", "not encoders that this version of CudaMoE wrote" },
    };

    [Theory]
    [MemberData(nameof(Edits))]
    public void Load_EditedFile_IsRefused(string edit, string rule)
    {
        Fit().Save(_folder["e.json"]);
        JsonNode json = JsonNode.Parse(File.ReadAllText(_folder["e.json"]))!;
        JsonNode table = json["tables"]![0]!;
        JsonNode feature = json["features"]![0]!;
        switch (edit)
        {
            case "version":
                json["version"] = 9;
                break;
            case "unknown":
                json["more"] = 1;
                break;
            case "absent":
                ((JsonObject)json["format"]!).Remove("separator");
                break;
            case "vocabulary":
                table["vocabulary"]!.AsArray().Add("a");
                break;
            case "rows":
                table["rows"] = 9;
                break;
            case "table":
                feature["table"] = "d";
                break;
            case "enum":
                feature["description"]!["type"] = "categories";
                break;
        }

        string text = edit switch { "cut" => json.ToJsonString()[..^5], "empty" => "", "null" => "null", _ => json.ToJsonString() };
        DataException error = Assert.Throws<DataException>(() => FittedEncoders.Load(_folder.Write("e.json", text)));
        Assert.Contains(rule, error.Message, StringComparison.Ordinal);
        Assert.Contains("e.json", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_NoFile_SaysSo() =>
        Assert.Contains("there is no such file", Assert.Throws<DataException>(() => FittedEncoders.Load(_folder["none.json"])).Message, StringComparison.Ordinal);

    private FittedEncoders Fit()
    {
        _folder.Write("train.csv", "c,x,y\na,1,0\na,9,1\nb,5,1\n");
        using Dataset data = Dataset.Open(Describe.Model([Describe.Category("c"), Describe.X], [Describe.Y]), _folder.Root);
        return data.Encoders;
    }
}
