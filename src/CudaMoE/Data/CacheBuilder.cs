using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>Builds the files of a cache: counts rows where a split is carved, fits the encoders on the training rows, encodes all
/// rows.</summary>
internal sealed class CacheBuilder
{
    private const int RowsBetweenReports = 1 << 15;
    private readonly DataDescription _data;
    private readonly ModelDescription _description;
    private readonly DataSources _sources;
    private readonly Action<DatasetProgress>? _progress;
    private readonly CancellationToken _cancellation;
    private Permutation _carved;
    private long _carvedRows;

    public CacheBuilder(
        ModelDescription description, DataSources sources, Action<DatasetProgress>? progress, CancellationToken cancellation)
    {
        _description = description;
        _data = description.Data!;
        _sources = sources;
        _progress = progress;
        _cancellation = cancellation;
    }

    /// <summary>Writes all files into an existing, empty folder.</summary>
    public void Build(string folder, string key, FittedEncoders? encoders)
    {
        List<string> notices = [];
        if (_data.ValidationSplit is { } split)
            Carve(split);
        encoders ??= Fit(notices);
        List<CacheFile> files = [];
        using (CacheFileWriter file = new(folder, FittedEncoders.FileName))
        {
            file.Write(encoders.ToUtf8Json());
            files.Add(file.Finish());
        }

        List<CacheSplit> splits = Encode(folder, encoders, files);
        new CacheManifest { Version = CacheManifest.CurrentVersion, Key = key, Splits = splits, Files = files, Notices = notices }.Write(folder);
    }

    private static bool IsSource(ValidationSplit? split, SplitSource source) => split?.From == source;

    private void Carve(ValidationSplit split)
    {
        IReadOnlyList<string> files = split.From == SplitSource.Train ? _sources.Train : _sources.Test;
        string name = split.From == SplitSource.Train ? "train" : "test";
        long rows = 0;
        ForEachRow(files, DatasetStage.Counting, _ => { }, (_, _) => rows++);
        if (rows < 2)
            throw new DataException($"data.validation_split needs at least 2 rows in data.{name}; there is {rows}");
        _carvedRows = Math.Clamp((long)Math.Round(split.Fraction * rows), 1, rows - 1);
        _carved = new(rows, split.Seed, (ulong)split.From);
    }

    // The chosen rows are those that a random permutation puts first.
    private bool IsCarved(long row) => _carved[row] < _carvedRows;

    private FittedEncoders Fit(List<string> notices)
    {
        EncoderFitter fitter = new(_description);
        bool carved = IsSource(_data.ValidationSplit, SplitSource.Train);
        ForEachRow(_sources.Train, DatasetStage.Fitting, fitter.Bind, (reader, row) =>
        {
            if (!carved || !IsCarved(row))
                fitter.Observe(reader);
        });
        return fitter.Finish(notices);
    }

    private List<CacheSplit> Encode(string folder, FittedEncoders encoders, List<CacheFile> files)
    {
        RowEncoder row = new(encoders, withLabels: true, _data.Format);
        List<SplitWriter> writers = [];
        try
        {
            SplitWriter Writer(string name)
            {
                SplitWriter writer = new(folder, name, encoders);
                writers.Add(writer);
                return writer;
            }

            SplitWriter train = Writer(DatasetSplit.TrainName);
            SplitWriter? validation = _data.ValidationSplit is not null || _sources.Validation.Count > 0
                ? Writer(DatasetSplit.ValidationName)
                : null;
            SplitWriter? test = _sources.Test.Count > 0 ? Writer(DatasetSplit.TestName) : null;
            EncodeFiles(_sources.Train, train, IsSource(_data.ValidationSplit, SplitSource.Train) ? validation : null, row);
            EncodeFiles(_sources.Validation, validation!, null, row);
            EncodeFiles(_sources.Test, test!, IsSource(_data.ValidationSplit, SplitSource.Test) ? validation : null, row);
            return [.. writers.Select(writer => writer.Finish(files))];
        }
        finally
        {
            foreach (SplitWriter writer in writers)
                writer.Dispose();
        }
    }

    private void EncodeFiles(IReadOnlyList<string> files, SplitWriter writer, SplitWriter? carvedWriter, RowEncoder row) =>
        ForEachRow(files, DatasetStage.Encoding, row.Bind, (reader, index) =>
        {
            row.Encode(reader);
            (carvedWriter is not null && IsCarved(index) ? carvedWriter : writer).Add(row);
        });

    // Rows are numbered through all files of a split.
    private void ForEachRow(
        IReadOnlyList<string> files, DatasetStage stage, Action<DelimitedReader> open, Action<DelimitedReader, long> visit)
    {
        long row = 0;
        foreach (string path in files)
        {
            using DelimitedReader reader = new(path, _data.Format);
            open(reader);
            while (reader.Read())
            {
                visit(reader, row);
                if (++row % RowsBetweenReports == 0)
                {
                    _cancellation.ThrowIfCancellationRequested();
                    _progress?.Invoke(new(stage, path, reader.BytesRead, reader.Length, row));
                }
            }

            if (reader.Rows == 0)
                throw new DataException("the file has a header, but no rows", path);
            _cancellation.ThrowIfCancellationRequested();
            _progress?.Invoke(new(stage, path, reader.Length, reader.Length, row));
        }
    }
}
