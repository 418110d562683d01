using System.Buffers.Text;
using System.Text;
using CudaMoE.Description;
using VocabularyLookup = System.Collections.Generic.Dictionary<byte[], int>.AlternateLookup<System.ReadOnlySpan<byte>>;

namespace CudaMoE.Data;

/// <summary>Turns the rows of a file into numbers. <see cref="Encode"/> leaves a row's numbers in the arrays; a row costs no
/// allocation.</summary>
internal sealed class RowEncoder
{
    private readonly FeaturePlan[] _features;
    private readonly FittedTask[] _tasks;
    private readonly LabelReader[] _labelReaders;
    private readonly VocabularyLookup[] _classes;
    private readonly string? _groupColumnName;
    private readonly VocabularyLookup _groups;
    private readonly bool _trim;
    private readonly bool _withLabels;
    private int _groupColumn = -1;

    /// <param name="encoders">What to encode with.</param>
    /// <param name="withLabels">Whether labels, weights and groups are read; if not, labels are NaN, weights 1 and groups 0.</param>
    /// <param name="format">The format of the files to come.</param>
    public RowEncoder(FittedEncoders encoders, bool withLabels, FileFormat format)
    {
        _trim = format.Trim;
        _withLabels = withLabels;
        BatchLayout layout = encoders.Layout;
        Ids = new int[layout.Sparse.Count];
        Bags = new List<int>[layout.Sparse.Count];
        for (int i = 0; i < Bags.Length; i++)
            Bags[i] = [];
        Dense = new float[layout.DenseWidth];
        Labels = new float[layout.Tasks];
        Weights = new float[layout.Tasks];
        Array.Fill(Labels, float.NaN);
        Array.Fill(Weights, 1);

        Dictionary<string, VocabularyLookup> vocabularies = encoders.Tables.Where(table => table.Vocabulary is not null)
            .ToDictionary(table => table.Name, table => Lookup(table.Vocabulary!, firstId: 1));
        _features = new FeaturePlan[encoders.Features.Count];
        int sparse = 0;
        int dense = 0;
        for (int i = 0; i < _features.Length; i++)
        {
            FittedFeature feature = encoders.Features[i];
            FeaturePlan plan = new(feature);
            if (feature.Table is null)
            {
                plan.Slot = dense;
                dense += plan.Description.Type == FeatureType.Vector ? plan.Description.Size!.Value : 1;
            }
            else
            {
                plan.TableRows = layout.Sparse[sparse].Rows;
                vocabularies.TryGetValue(feature.Table, out plan.Vocabulary);
                plan.Slot = sparse++;
            }

            _features[i] = plan;
        }

        _tasks = [.. encoders.Tasks];
        _labelReaders = [.. _tasks.Select(task => new LabelReader(task.Description))];
        _classes = [.. _tasks.Select(task => task.Classes is null ? default : Lookup(task.Classes, firstId: 0))];
        _groupColumnName = encoders.GroupColumn;
        _groups = NewDictionary().GetAlternateLookup<ReadOnlySpan<byte>>();
    }

    /// <summary>Ids of inputs that are not multi-hot, by input.</summary>
    public int[] Ids { get; }

    /// <summary>Ids of multi-hot inputs, by input.</summary>
    public List<int>[] Bags { get; }

    /// <summary>Dense features and vectors.</summary>
    public float[] Dense { get; }

    /// <summary>A label a task.</summary>
    public float[] Labels { get; }

    /// <summary>A weight a task.</summary>
    public float[] Weights { get; }

    /// <summary>The group, numbered in the order of appearance since this encoder was made.</summary>
    public int Group { get; private set; }

    /// <summary>Looks up the features' columns; call it before the first <see cref="EncodeFeatures"/> of each source.</summary>
    /// <exception cref="DataException">A column is not there.</exception>
    public void BindFeatures(IFieldSource source)
    {
        foreach (FeaturePlan plan in _features)
            plan.Column = source.IndexOf(plan.Feature.Column, $"feature \"{plan.Description.Name}\"");
    }

    /// <summary>Looks up the columns of a file; call it before the first <see cref="Encode"/> of each.</summary>
    /// <exception cref="DataException">A column is not there.</exception>
    public void Bind(DelimitedReader reader)
    {
        BindFeatures(reader);
        if (!_withLabels)
            return;
        foreach (LabelReader label in _labelReaders)
            label.Bind(reader);
        if (_groupColumnName is not null)
            _groupColumn = reader.IndexOf(_groupColumnName, "group_column");
    }

    /// <summary>Encodes the features of a source's current row.</summary>
    /// <exception cref="DataException">A field breaks a rule.</exception>
    public void EncodeFeatures(IFieldSource source)
    {
        foreach (FeaturePlan plan in _features)
        {
            ReadOnlySpan<byte> text = source.Field(plan.Column);
            bool missing = source.IsMissing(text);
            switch (plan.Description.Type)
            {
                case FeatureType.Categorical:
                    Ids[plan.Slot] = missing ? 0 : plan.Id(text);
                    break;
                case FeatureType.MultiHot:
                case FeatureType.Sequence:
                    EncodeBag(plan, missing ? default : text, source);
                    break;
                case FeatureType.Dense when plan.Feature.Boundaries is not null:
                    Ids[plan.Slot] = missing ? 0 : plan.Bucket(plan.Number(source));
                    break;
                case FeatureType.Dense:
                    Dense[plan.Slot] = plan.Transform(missing ? plan.Feature.Statistics.Mean : plan.Number(source), source);
                    break;
                default:
                    Span<float> vector = Dense.AsSpan(plan.Slot, plan.Description.Size!.Value);
                    if (missing)
                        vector.Clear();
                    else
                        EncodeVector(plan, text, vector, source);
                    break;
            }
        }
    }

    /// <summary>Encodes the reader's current row.</summary>
    /// <exception cref="DataException">A field breaks a rule.</exception>
    public void Encode(DelimitedReader reader)
    {
        EncodeFeatures(reader);
        if (!_withLabels)
            return;
        for (int task = 0; task < _tasks.Length; task++)
        {
            Weights[task] = _labelReaders[task].Weight(reader);
            Labels[task] = Label(task, reader);
        }

        if (_groupColumn >= 0)
            Group = GroupId(reader.Field(_groupColumn));
    }

    private static Dictionary<byte[], int> NewDictionary() => new(Utf8Comparer.Instance);

    private static VocabularyLookup Lookup(IReadOnlyList<string> texts, int firstId)
    {
        Dictionary<byte[], int> ids = new(texts.Count, Utf8Comparer.Instance);
        for (int i = 0; i < texts.Count; i++)
            ids.Add(Encoding.UTF8.GetBytes(texts[i]), firstId + i);
        return ids.GetAlternateLookup<ReadOnlySpan<byte>>();
    }

    private void EncodeBag(FeaturePlan plan, ReadOnlySpan<byte> text, IFieldSource source)
    {
        List<int> bag = Bags[plan.Slot];
        bag.Clear();
        FieldSplitter values = new(text, plan.Separator, _trim);
        int length = plan.Feature.MaxLength;
        bool keepsLast = plan.Description is { Type: FeatureType.Sequence, Keep: SequenceEnd.Last };
        while ((keepsLast || bag.Count < length) && values.MoveNext())
        {
            if (!source.IsMissing(values.Current))
                bag.Add(plan.Id(values.Current));
        }

        if (bag.Count > length)
            bag.RemoveRange(0, bag.Count - length);
    }

    private void EncodeVector(FeaturePlan plan, ReadOnlySpan<byte> text, Span<float> vector, IFieldSource source)
    {
        FieldSplitter values = new(text, plan.Separator, _trim);
        int count = 0;
        for (; values.MoveNext(); count++)
        {
            if (!Utf8Text.TryParseNumber(values.Current, out double value) || !float.IsFinite((float)value))
                throw source.Error(
                    plan.Column, $"value {count + 1} of the vector, {Utf8Text.Quote(values.Current)}, is not a finite number");
            if (count < vector.Length)
                vector[count] = (float)value;
        }

        if (count != vector.Length)
        {
            throw source.Error(
                plan.Column,
                $"the vector has {count} values; feature \"{plan.Description.Name}\" has size {vector.Length}, separated by '{plan.Description.ValueSeparator}'");
        }
    }

    private float Label(int task, DelimitedReader reader)
    {
        LabelReader label = _labelReaders[task];
        if (label.IsMissing(reader))
            return float.NaN;
        FittedTask fitted = _tasks[task];
        if (fitted.Description.Type == TaskType.Multiclass)
        {
            ReadOnlySpan<byte> text = label.Text(reader);
            if (_classes[task].TryGetValue(text, out int id))
                return id;
            if (Weights[task] == 0)
                return float.NaN;
            string origin = fitted.Description.Classes is null
                ? "that the training rows hold; list all classes in \"classes\""
                : "of the task";
            throw label.Error(
                reader,
                $"{Utf8Text.Quote(text)} is not one of the {fitted.Classes!.Count} classes {origin} ({string.Join(", ", fitted.Classes.Take(10))})");
        }

        double value = label.Number(reader);
        if (fitted.Description.Type == TaskType.Regression)
        {
            value = fitted.Description.Transform switch
            {
                LabelTransform.Standardize => (value - fitted.LabelMean) / (fitted.LabelDeviation == 0 ? 1 : fitted.LabelDeviation),
                LabelTransform.Log => Math.Log(1 + value),
                _ => value,
            };
        }

        return float.IsFinite((float)value)
            ? (float)value
            : throw label.Error(reader, $"the label {value} is beyond the range of a 32-bit float");
    }

    private int GroupId(ReadOnlySpan<byte> text)
    {
        if (!_groups.TryGetValue(text, out int id))
        {
            id = _groups.Dictionary.Count;
            _groups[text] = id;
        }

        return id;
    }

    /// <summary>A feature, where its column is, and where its numbers go.</summary>
    private sealed class FeaturePlan(FittedFeature feature)
    {
        private readonly double[] _boundaries = feature.Boundaries is null ? [] : [.. feature.Boundaries];
        public VocabularyLookup Vocabulary;

        public FittedFeature Feature { get; } = feature;

        public FeatureDescription Description { get; } = feature.Description;

        public byte Separator { get; } =
            FeatureRules.IsSeparated(feature.Description) ? FieldSplitter.Separator(feature.Description) : (byte)0;

        public int Column { get; set; }

        public int Slot { get; set; }

        public int TableRows { get; set; }

        public int Id(ReadOnlySpan<byte> text)
        {
            switch (Description.Encoding)
            {
                case CategoryEncoding.Vocabulary:
                    return Vocabulary.TryGetValue(text, out int id) ? id : 0;
                case CategoryEncoding.Hash:
                    return 1 + (int)(XxHash64.Hash(text) % (ulong)(TableRows - 1));
                default:
                    bool isId = Utf8Parser.TryParse(text, out long value, out int consumed) && consumed == text.Length;
                    return isId && value > 0 && value < TableRows ? (int)value : 0;
            }
        }

        public double Number(IFieldSource source) => source.Number(Column, "a dense feature takes finite numbers");

        /// <summary>1 + the number of boundaries that are not above the value.</summary>
        public int Bucket(double value)
        {
            int low = 0;
            int high = _boundaries.Length;
            while (low < high)
            {
                int middle = (low + high) >>> 1;
                if (_boundaries[middle] <= value)
                    low = middle + 1;
                else
                    high = middle;
            }

            return 1 + low;
        }

        public float Transform(double value, IFieldSource source)
        {
            FeatureStatistics statistics = Feature.Statistics;
            double transformed = Description.Transform switch
            {
                DenseTransform.Standardize => Standardize(value, statistics.Mean, statistics.Deviation),
                DenseTransform.MinMax when statistics.Maximum > statistics.Minimum =>
                    Math.Clamp((value - statistics.Minimum) / (statistics.Maximum - statistics.Minimum), 0, 1),
                DenseTransform.MinMax => 0,
                DenseTransform.Log => Standardize(SignedLog(value), Feature.LogMean, Feature.LogDeviation),
                _ => value,
            };
            return float.IsFinite((float)transformed)
                ? (float)transformed
                : throw source.Error(Column, $"the number {value} becomes {transformed}, which is beyond the range of a 32-bit float");
        }

        private static double Standardize(double value, double mean, double deviation) => deviation == 0 ? 0 : (value - mean) / deviation;
    }

    /// <summary>sign(x) * log(1 + |x|).</summary>
    internal static double SignedLog(double value) => double.CopySign(Math.Log(1 + Math.Abs(value)), value);
}
