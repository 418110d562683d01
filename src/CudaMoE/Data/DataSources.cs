using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>The files of a data set, as full paths.</summary>
internal sealed record DataSources(IReadOnlyList<string> Train, IReadOnlyList<string> Validation, IReadOnlyList<string> Test)
{
    // Files up to this size are hashed whole; of larger ones the first and the last part.
    private const long WholeHashBytes = 1 << 24;
    private const int PartHashBytes = 1 << 20;

    public static DataSources Resolve(DataDescription data, string baseFolder)
    {
        string[] Full(IReadOnlyList<string> paths) => [.. paths.Select(path => Path.GetFullPath(path, Path.GetFullPath(baseFolder)))];
        return new(Full(data.Train), Full(data.Validation), Full(data.Test));
    }

    /// <summary>
    /// A hash of all that the cache depends on: the files (path, length, time of change, content), how they are read, encoded and split.
    /// What only the model uses (dimensions, pooling, where tables lie, loss weights, given tasks) is left out, so that changing it keeps the cache.
    /// </summary>
    public string Key(ModelDescription description, FittedEncoders? encoders)
    {
        DataDescription data = description.Data!;
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        void Add(string text) => hash.AppendData(Encoding.UTF8.GetBytes($"{text.Length}:{text}\n"));
        Add($"cache {CacheManifest.CurrentVersion}, encoders {EncodersDocument.CurrentVersion}, block {BlockLayout.Rows}");
        EncodersDocument recipe = new()
        {
            Version = EncodersDocument.CurrentVersion,
            Format = data.Format,
            GroupColumn = data.GroupColumn,
            TrainingRows = 0,
            Features =
            [
                .. description.Features.Select(feature => new FittedFeature
                {
                    Description = feature with { Dimension = null, Pooling = PoolingKind.Sum, Storage = null },
                    Statistics = new(),
                }),
            ],
            Tables = [],
            Tasks = [.. description.Tasks.Select(task => new FittedTask { Description = task with { Weight = 1, Given = null } })],
        };
        Add(JsonSerializer.Serialize(recipe, EncodersJson.Default.EncodersDocument));
        Add(FormattableString.Invariant($"{data.ValidationSplit?.From} {data.ValidationSplit?.Fraction:R} {data.ValidationSplit?.Seed}"));
        Add(encoders?.Fingerprint ?? "fit");
        foreach ((string name, IReadOnlyList<string> files) in new[] { ("train", Train), ("validation", Validation), ("test", Test) })
        {
            foreach (string path in files)
            {
                Add(name);
                Add(path);
                AddIdentity(hash, path);
            }
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static void AddIdentity(IncrementalHash hash, string path)
    {
        using FileStream file = TextFile.Open(path);
        Span<byte> numbers = stackalloc byte[16];
        BinaryPrimitives.WriteInt64LittleEndian(numbers, file.Length);
        BinaryPrimitives.WriteInt64LittleEndian(numbers[8..], File.GetLastWriteTimeUtc(path).Ticks);
        hash.AppendData(numbers);
        byte[] buffer = new byte[PartHashBytes];
        if (file.Length > WholeHashBytes)
        {
            file.ReadExactly(buffer);
            hash.AppendData(buffer);
            file.Position = file.Length - PartHashBytes;
        }

        for (int read = file.Read(buffer); read > 0; read = file.Read(buffer))
            hash.AppendData(buffer, 0, read);
    }
}
