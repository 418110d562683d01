using System.Runtime.InteropServices;
using System.Text;
using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>Learns the encoders from the training rows: observe every row once, then finish.</summary>
internal sealed class EncoderFitter
{
    private const int MaxClasses = 1 << 16;
    private readonly ModelDescription _description;
    private readonly FileFormat _format;
    private readonly FeatureFit[] _features;
    private readonly List<TableFit> _tables = [];
    private readonly TaskFit[] _tasks;
    private long _rows;

    public EncoderFitter(ModelDescription description)
    {
        _description = description;
        _format = description.Data!.Format;
        _features = [.. description.Features.Select(feature => new FeatureFit(feature, TableOf(feature)))];
        _tasks = [.. description.Tasks.Select(task => new TaskFit(task))];
    }

    public void Bind(DelimitedReader reader)
    {
        foreach (FeatureFit fit in _features)
            fit.Column = reader.IndexOf(fit.Description.Column ?? fit.Description.Name, $"feature \"{fit.Description.Name}\"");
        foreach (TaskFit fit in _tasks)
            fit.Label.Bind(reader);
    }

    public void Observe(DelimitedReader reader)
    {
        _rows++;
        foreach (FeatureFit fit in _features)
            fit.Observe(reader, _format.Trim);
        foreach (TaskFit fit in _tasks)
            fit.Observe(reader);
    }

    /// <summary>The encoders.</summary>
    /// <param name="notices">Takes what is odd about the training rows, though not wrong.</param>
    public FittedEncoders Finish(List<string> notices)
    {
        foreach (TableFit table in _tables)
            table.Finish();
        foreach (FeatureFit fit in _features.Where(fit => fit.Present == 0))
            notices.Add($"feature \"{fit.Description.Name}\" has no value in any training row");
        return new(new EncodersDocument
        {
            Version = EncodersDocument.CurrentVersion,
            Format = _format,
            GroupColumn = _description.Data!.GroupColumn,
            TrainingRows = _rows,
            Features = [.. _features.Select(fit => fit.Finish())],
            Tables = [.. _tables.Select(table => table.Fitted!)],
            Tasks = [.. _tasks.Select(fit => fit.Finish(notices))],
        });
    }

    private TableFit? TableOf(FeatureDescription feature)
    {
        if (!FeatureRules.IsEmbedded(feature))
            return null;
        string name = feature.Table ?? feature.Name;
        TableFit? table = _tables.Find(other => other.Name == name);
        if (table is null)
        {
            table = new(name, feature);
            _tables.Add(table);
        }

        return table;
    }

    /// <summary>An embedding table and, for a vocabulary, how often each text was seen.</summary>
    private sealed class TableFit(string name, FeatureDescription first)
    {
        private readonly Dictionary<byte[], long> _counts = new(Utf8Comparer.Instance);

        public string Name { get; } = name;

        public FeatureDescription First { get; } = first;

        public FittedTable? Fitted { get; private set; }

        public long Distinct => _counts.Count;

        private bool HasVocabulary => First.Type != FeatureType.Dense && First.Encoding == CategoryEncoding.Vocabulary;

        public void Observe(ReadOnlySpan<byte> text)
        {
            if (HasVocabulary)
                CollectionsMarshal.GetValueRefOrAddDefault(_counts.GetAlternateLookup<ReadOnlySpan<byte>>(), text, out _)++;
        }

        public void Finish()
        {
            string[]? vocabulary = null;
            int rows;
            if (HasVocabulary)
            {
                IEnumerable<KeyValuePair<byte[], long>> kept = _counts.Where(pair => pair.Value >= First.MinCount)
                    .OrderByDescending(pair => pair.Value)
                    .ThenBy(pair => pair.Key, Utf8Comparer.Instance);
                if (First.Buckets is { } limit)
                    kept = kept.Take(limit - 1);
                vocabulary = [.. kept.Select(pair => Encoding.UTF8.GetString(pair.Key))];
                rows = vocabulary.Length + 1;
            }
            else
            {
                // The buckets of hash and identity count row 0, those of quantiles do not.
                rows = First.Buckets!.Value + (First.Type == FeatureType.Dense ? 1 : 0);
            }

            Fitted = new()
            {
                Name = Name,
                Rows = rows,
                Dimension = First.Dimension!.Value,
                Vocabulary = vocabulary,
            };
        }
    }

    /// <summary>What is seen of one feature.</summary>
    private sealed class FeatureFit(FeatureDescription description, TableFit? table)
    {
        private readonly byte _separator =
            FeatureRules.IsSeparated(description) ? FieldSplitter.Separator(description) : (byte)0;

        private readonly QuantileSample? _sample = description.Type == FeatureType.Dense && table is not null ? new() : null;
        private long _missing;
        private long _values;
        private int _longest = 1;
        private Moments _moments;
        private Moments _logMoments;

        public FeatureDescription Description { get; } = description;

        public int Column { get; set; }

        public long Present { get; private set; }

        public void Observe(DelimitedReader reader, bool trim)
        {
            ReadOnlySpan<byte> text = reader.Field(Column);
            if (reader.IsMissing(text))
            {
                _missing++;
                return;
            }

            Present++;
            switch (Description.Type)
            {
                case FeatureType.Categorical:
                    _values++;
                    table!.Observe(text);
                    break;
                case FeatureType.Dense:
                    _values++;
                    double value = reader.Number(Column, "a dense feature takes finite numbers");
                    _moments.Add(value);
                    _sample?.Add(value);
                    if (Description.Transform == DenseTransform.Log)
                        _logMoments.Add(RowEncoder.SignedLog(value));
                    break;
                default:
                    ObserveList(text, reader, trim);
                    break;
            }
        }

        public FittedFeature Finish() => new()
        {
            Description = Description,
            Table = table?.Name,
            MaxLength = FeatureRules.IsList(Description) ? Description.MaxLength ?? _longest : 1,
            Boundaries = _sample?.Boundaries(Description.Buckets!.Value),
            LogMean = _logMoments.Mean,
            LogDeviation = _logMoments.Deviation,
            Statistics = new()
            {
                Present = Present,
                Missing = _missing,
                Values = _values,
                Distinct = table?.Distinct ?? 0,
                Mean = _moments.Mean,
                Deviation = _moments.Deviation,
                Minimum = _moments.Minimum,
                Maximum = _moments.Maximum,
            },
        };

        private int Count(ReadOnlySpan<byte> text, DelimitedReader reader, bool trim)
        {
            int count = 0;
            FieldSplitter values = new(text, _separator, trim);
            while (values.MoveNext())
                count += reader.IsMissing(values.Current) ? 0 : 1;
            return count;
        }

        // A vocabulary counts the values that are kept: the others never reach the model.
        private void ObserveList(ReadOnlySpan<byte> text, DelimitedReader reader, bool trim)
        {
            int length = 0;
            int limit = FeatureRules.IsList(Description) ? Description.MaxLength ?? int.MaxValue : int.MaxValue;
            int passed = Description is { Type: FeatureType.Sequence, Keep: SequenceEnd.Last } ? Count(text, reader, trim) - limit : 0;
            FieldSplitter values = new(text, _separator, trim);
            while (length < limit && values.MoveNext())
            {
                if (FeatureRules.IsList(Description))
                {
                    if (reader.IsMissing(values.Current) || passed-- > 0)
                        continue;
                    table!.Observe(values.Current);
                }
                else if (Utf8Text.TryParseNumber(values.Current, out double value))
                {
                    _moments.Add(value);
                }

                length++;
            }

            _values += length;
            _longest = Math.Max(_longest, length);
        }
    }

    /// <summary>What is seen of one task's labels.</summary>
    private sealed class TaskFit(TaskDescription description)
    {
        private readonly Dictionary<byte[], long> _classes = new(Utf8Comparer.Instance);
        private Moments _labels;
        private long _missing;
        private long _masked;
        private long _trained;

        public LabelReader Label { get; } = new(description);

        public void Observe(DelimitedReader reader)
        {
            bool masked = Label.IsMasked(reader);
            if (masked)
                _masked++;
            if (Label.IsMissing(reader))
            {
                _missing++;
                return;
            }

            bool trained = Label.Weight(reader) > 0;
            if (description.Type == TaskType.Multiclass)
            {
                if (!trained)
                    return;
                CollectionsMarshal.GetValueRefOrAddDefault(_classes.GetAlternateLookup<ReadOnlySpan<byte>>(), Label.Text(reader), out _)++;
                if (_classes.Count > MaxClasses)
                    throw Label.Error(
                        reader, $"task \"{description.Name}\" has more than {MaxClasses:N0} classes; is this the right column?");
            }
            else
            {
                double value = Label.Number(reader);
                if (trained)
                    _labels.Add(value);
            }

            if (trained)
                _trained++;
        }

        public FittedTask Finish(List<string> notices)
        {
            if (_trained == 0)
                throw new DataException($"task \"{description.Name}\" has no training row with a label and a weight above 0");
            string[] unseen = [.. Label.PositivesNeverSeen];
            if (unseen.Length > 0 && unseen.Length == description.Positive!.Count)
            {
                throw new DataException(
                    $"task \"{description.Name}\": no training row holds any of its positive texts ({string.Join(", ", unseen.Select(text => $"\"{text}\""))}); "
                    + "compare them with the file, letter by letter");
            }

            foreach (string text in unseen)
                notices.Add($"task \"{description.Name}\": no training row holds the positive text \"{text}\"");
            string[]? classes = description.Type == TaskType.Multiclass ? [.. description.Classes ?? SortedClasses()] : null;
            if (classes is [var only])
            {
                throw new DataException(
                    $"task \"{description.Name}\" is multiclass, but all its training rows are of the class \"{only}\"; list all classes in the description, or remove the task");
            }

            return new()
            {
                Description = description,
                Classes = classes,
                ClassCounts = classes is null
                    ? null
                    : [.. classes.Select(text => _classes.GetValueOrDefault(Encoding.UTF8.GetBytes(text)))],
                LabelMean = _labels.Mean,
                LabelDeviation = _labels.Deviation,
                Trained = _trained,
                Missing = _missing,
                Masked = _masked,
            };
        }

        // By number when all are numbers, else by text.
        private IEnumerable<string> SortedClasses()
        {
            IEnumerable<byte[]> sorted = _classes.Keys.Order(Utf8Comparer.Instance);
            if (_classes.Keys.All(text => Utf8Text.TryParseNumber(text, out _)))
            {
                sorted = sorted.OrderBy(text => Utf8Text.TryParseNumber(text, out double value) ? value : double.NaN);
            }

            return sorted.Select(Encoding.UTF8.GetString);
        }
    }
}
