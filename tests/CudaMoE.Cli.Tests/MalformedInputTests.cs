using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using System.Text.Json;

namespace CudaMoE.Cli.Tests;

/// <summary>Every kind of malformed file gives an error that names it, of the kind and with the exit code of docs/cli.md.</summary>
public sealed class MalformedInputTests : IDisposable
{
    private const string Model =
        """
        {
          "name": "m",
          "data": { "train": ["FILE"], "validation_split": { "fraction": 0.25 } },
          "features": [{ "name": "a", "type": "dense" }, { "name": "b", "type": "categorical", "dimension": 4 }],
          "tasks": [{ "name": "y", "type": "binary" }],
          "architecture": { "type": "mmoe", "experts": { "count": 2, "layers": [8] }, "tower": [4] },
          "training": { "batch_size": 16, "epochs": 1 }
        }
        """;

    private static readonly string Rows = "a,b,y\n" + string.Concat(Enumerable.Range(0, 40).Select(i => $"{i},{(char)('p' + (i % 3))},{i % 2}\n"));

    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string, string, string> BadRows => new()
    {
        { "", "data.csv", "the file is empty" },
        { "a,b,y\n", "data.csv", "the file has a header, but no rows" },
        { "aa,b,y\n1,p,0\n2,q,1\n3,p,0\n4,q,1\n", "data.csv, line 1", "did you mean \"aa\"?" },
        { "a,a,b,y\n1,1,p,0\n2,2,q,1\n", "data.csv, line 1, column \"a\"", "two columns have this name" },
        { "a,b,y\n1,p,0\n2,q\n", "data.csv, line 3", "the row has 2 fields; the header names 3 fields" },
        { "a,b,y\n1,p,0\nabc,q,1\n", "data.csv, line 3, column \"a\"", "\"abc\" is not a finite number" },
        { "a,b,y\n1,p,0\ninf,q,1\n", "data.csv, line 3, column \"a\"", "\"inf\" is not a finite number" },
        { "a,b,y\n1,p,0\n2,q,7\n", "data.csv, line 3, column \"y\"", "the label 7 is out of range" },
        { "a,b,y\n1,\"p,0\n2,q,1\n", "data.csv, line 2", "a quote is opened and never closed" },
        { "a,b,y\n1,\"p\"x,0\n2,q,1\n", "data.csv, line 2", "text behind its closing quote" },
        { $"a,b,y\n1,p,0\n2,{new string('q', 1_000_000)},1\n", "data.csv, line 3", "the row is longer than 524,288 bytes" },
    };

    public static TheoryData<string, string> BadDescriptions => new()
    {
        { Model.Replace("batch_size", "batch_sise", StringComparison.Ordinal), "did you mean \"batch_size\"?" },
        { Model.Replace("\"mmoe\"", "\"mmoo\"", StringComparison.Ordinal), "did you mean \"mmoe\"?" },
        { Model.Replace("\"name\": \"m\",", "\"name\": \"m\", \"name\": \"n\",", StringComparison.Ordinal), "name" },
        { Model.Replace("16", "\"many\"", StringComparison.Ordinal), "training.batch_size is \"many\"" },
        { Model[..300], "not valid JSON" },
        { "", "not valid JSON" },
        { "[]", "the description is a list" },
        { new string('[', 10_000), "not valid JSON" },
    };

    public static TheoryData<string, string> Damages
    {
        get
        {
            TheoryData<string, string> all = [];
            foreach (string file in new[] { "weights.safetensors", "optimizer.safetensors", "model.json", "encoders.json", "state.json", "manifest.json" })
            {
                foreach (string damage in new[] { "cut off", "altered", "deleted" })
                    all.Add(file, damage);
            }

            return all;
        }
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(BadRows))]
    public void Rows_ThatBreakARule_AreNamed(string text, string place, string rule)
    {
        _folder.Write("data.csv", text);

        Refused("data", [place, rule], "train", WriteModel("data.csv"));
    }

    [Fact]
    public void Rows_ThatAreNotUtf8_AreNamed()
    {
        byte[] text = Encoding.Latin1.GetBytes("a,b,y\n1,p,0\n2,caf\u00e9,1\n");
        File.WriteAllBytes(Path.Combine(_folder.Path, "data.csv"), text);

        Refused("data", ["data.csv, line 3, column \"b\"", "not valid UTF-8: byte 0xE9 at position 4"], "train", WriteModel("data.csv"));
    }

    [Theory]
    [InlineData("train", 0.5, "the gzip data is broken or cut off")]
    [InlineData("train", 0, "the content is not gzip data")]
    [InlineData("init", 0.5, "the gzip data is broken or cut off")]
    [InlineData("init", 0, "the content is not gzip data")]
    public void Gzip_ThatIsBroken_IsNamed(string command, double kept, string rule)
    {
        string path = Path.Combine(_folder.Path, "data.csv.gz");
        Random random = new(1);
        string rows = "a,b,y\n" + string.Concat(Enumerable.Range(0, 20_000).Select(i => $"{random.NextInt64()},p,{i % 2}\n"));
        using (MemoryStream packed = new())
        {
            using (StreamWriter writer = new(new GZipStream(packed, CompressionLevel.Fastest, leaveOpen: true)))
                writer.Write(rows);
            File.WriteAllBytes(path, kept == 0 ? Encoding.UTF8.GetBytes(rows) : packed.ToArray()[..(int)(packed.Length * kept)]);
        }

        Refused("data", ["data.csv.gz", rule], command == "init" ? [command, path, "--to", Path.Combine(_folder.Path, "m.json")] : [command, WriteModel("data.csv.gz")]);
    }

    [Theory]
    [MemberData(nameof(BadDescriptions))]
    public void Description_ThatBreaksARule_IsNamed(string text, string rule)
    {
        string path = _folder.Write("model.json", text);

        Refused("description", ["model.json", rule], "train", path);
        Refused("description", ["model.json", rule], "train", path, "--epochs", "2");
    }

    [Theory]
    [MemberData(nameof(Damages))]
    public void Checkpoint_ThatWasDamaged_IsNamed(string file, string damage)
    {
        string run = Train();
        foreach (string checkpoint in Directory.GetDirectories(Path.Combine(run, "checkpoints")))
        {
            string path = Path.Combine(checkpoint, file);
            byte[] bytes = File.ReadAllBytes(path);
            switch (damage)
            {
                case "cut off":
                    File.WriteAllBytes(path, bytes[..^3]);
                    break;
                case "altered":
                    bytes[bytes.Length / 2] ^= 1;
                    File.WriteAllBytes(path, bytes);
                    break;
                default:
                    File.Delete(path);
                    break;
            }
        }

        Refused("checkpoint", [file], "evaluate", run, "--split", "validation");
        Refused("checkpoint", [file], "resume", run);
    }

    [Theory]
    [InlineData("short", "begins with 8 bytes of header length")]
    [InlineData("cut off", "must ascend and end within")]
    [InlineData("huge header", "at most 100000000 are allowed")]
    [InlineData("header cut off", "the file is truncated")]
    [InlineData("overlap", "overlaps tensor")]
    [InlineData("more data", "every byte must belong to a tensor")]
    [InlineData("no JSON", "has a header")]
    public void Safetensors_ThatBreakTheFormat_AreNamed(string damage, string rule)
    {
        static byte[] Of(string header, int data)
        {
            byte[] json = Encoding.UTF8.GetBytes(header);
            byte[] file = new byte[8 + json.Length + data];
            BinaryPrimitives.WriteInt64LittleEndian(file, json.Length);
            json.CopyTo(file, 8);
            return file;
        }

        const string Good = """{"p":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"q":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}""";
        byte[] huge = Of(Good, 16);
        BinaryPrimitives.WriteInt64LittleEndian(huge, 1L << 62);
        byte[] bytes = damage switch
        {
            "short" => [1, 2, 3],
            "cut off" => Of(Good, 16)[..^1],
            "huge header" => huge,
            "header cut off" => Of(Good, 16)[..40],
            "overlap" => Of(Good.Replace("[8,16]", "[4,12]", StringComparison.Ordinal), 12),
            "more data" => Of(Good, 20),
            _ => Of(Good[..30], 16),
        };
        string path = Path.Combine(_folder.Path, "x.safetensors");
        File.WriteAllBytes(path, bytes);

        Refused("checkpoint", ["x.safetensors", rule], "inspect", path);
    }

    [Fact]
    public void ControlCharacters_OfAFile_AreShownAndNotSentToTheTerminal()
    {
        _folder.Write("data.csv", "a,b,y\n1,p,0\n\u001b[31m2,q,1\n");

        ToolResult result = ToolProcess.RunHere("train", WriteModel("data.csv"));

        Assert.Equal(ExitCodes.Usage, result.ExitCode);
        Assert.Contains("\"\\u001B[31m2\" is not a finite number", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Notices_OfTheData_AreShown()
    {
        _folder.Write("data.csv", Rows.Replace(",p,", ",,", StringComparison.Ordinal).Replace(",q,", ",,", StringComparison.Ordinal).Replace(",r,", ",,", StringComparison.Ordinal));

        ToolResult result = ToolProcess.RunHere("train", WriteModel("data.csv"), "--runs", Path.Combine(_folder.Path, "runs"), "--no-report");

        Assert.True(result.ExitCode == ExitCodes.Ok, result.Error);
        Assert.Contains("notice: feature \"b\" has no value in any training row", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Report_ThatCannotBeWritten_FailsWithOneAndKeepsTheResults()
    {
        string run = Train();
        Directory.CreateDirectory(Path.Combine(_folder.Path, "taken", "inside"));

        ToolResult report = ToolProcess.RunHere("report", run, "--to", Path.Combine(_folder.Path, "taken"), "--output", "json");
        File.Delete(Path.Combine(run, "report.html"));
        Directory.CreateDirectory(Path.Combine(run, "report.html", "inside"));
        ToolResult resumed = ToolProcess.RunHere("resume", run, "--output", "json");

        Assert.Equal((ExitCodes.Failed, "file"), (report.ExitCode, KindOf(report)));
        Assert.Equal(ExitCodes.Failed, resumed.ExitCode);
        Assert.Contains("cannot write the report", resumed.Error, StringComparison.Ordinal);
        using JsonDocument answer = JsonDocument.Parse(resumed.Output);
        Assert.Equal("completed", answer.RootElement.GetProperty("status").GetString());
        Assert.False(answer.RootElement.TryGetProperty("report", out _));
    }

    private static string KindOf(ToolResult result)
    {
        using JsonDocument document = JsonDocument.Parse(result.Output);
        return document.RootElement.GetProperty("error").GetProperty("kind").GetString()!;
    }

    private static void Refused(string kind, string[] texts, params string[] arguments)
    {
        ToolResult result = ToolProcess.RunHere([.. arguments, "--output", "json"]);

        Assert.Equal((ExitCodes.Usage, kind), (result.ExitCode, KindOf(result)));
        Assert.All(texts, text => Assert.Contains(text, result.Error, StringComparison.Ordinal));
    }

    private string Train()
    {
        _folder.Write("data.csv", Rows);
        ToolResult result = ToolProcess.RunHere("train", WriteModel("data.csv"), "--runs", Path.Combine(_folder.Path, "runs"));
        Assert.True(result.ExitCode == ExitCodes.Ok, result.Error);
        return Assert.Single(Directory.GetDirectories(Path.Combine(_folder.Path, "runs")));
    }

    private string WriteModel(string file) => _folder.Write("model.json", Model.Replace("FILE", file, StringComparison.Ordinal));
}
