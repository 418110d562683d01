using System.Globalization;
using CudaMoE.Description;

namespace CudaMoE.Metrics;

/// <summary>How a calibration curve is cut.</summary>
public enum CalibrationBinning
{
    /// <summary>Ranges of the same width between 0 and 1.</summary>
    EqualWidth,

    /// <summary>Ranges with about the same number of rows; rows of equal prediction stay together.</summary>
    EqualCount,
}

/// <summary>
/// Metrics of a binary task: AUC and GAUC exactly, by sorting all scores (ties count half), log loss, normalised entropy,
/// calibration and accuracy. Keeps 12 bytes a row (4 less without weights or without groups), and 16 more from the first time that it computes; room doubles as rows come.
/// </summary>
/// <remarks>
/// Labels may be anything from 0 to 1: a row counts as positive with weight w y and as negative with weight w (1 - y).
/// Logarithms of probabilities are cut at <see cref="LeastProbability"/>, those of logits are exact.
/// </remarks>
public sealed class BinaryAccumulator : TaskAccumulator
{
    /// <summary>The least probability whose logarithm is taken.</summary>
    public const double LeastProbability = 1e-12;

    private readonly ScoreKind _kind;
    private readonly int _bins;
    private readonly CalibrationBinning _binning;
    private readonly ScoreOrder _order = new();
    private float[] _scores = [];
    private float[] _labels = [];
    private float[]? _weights;
    private int[]? _groups;
    private int _count;
    private bool _begun;
    private double _loss;
    private double _positive;
    private double _predicted;
    private double _right;

    /// <summary>Creates it.</summary>
    /// <param name="task">The task's name.</param>
    /// <param name="kind">What the predictions are.</param>
    /// <param name="bins">Ranges of the calibration curve, at least 1.</param>
    /// <param name="binning">How they are cut.</param>
    public BinaryAccumulator(
        string task, ScoreKind kind = ScoreKind.Probability, int bins = 10, CalibrationBinning binning = CalibrationBinning.EqualWidth)
        : base(task, TaskType.Binary, 1)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bins, 1);
        _kind = kind;
        _bins = bins;
        _binning = binning;
    }

    private protected override string InvalidPrediction => _kind == ScoreKind.Logit ? "not finite" : "not from 0 to 1";

    private protected override void Begin(int rows, bool hasGroups)
    {
        if (_begun && hasGroups != _groups is not null)
            throw new ArgumentException("groups must be given for all rows or for none");
        _begun = true;
        int needed = checked(_count + rows);
        if (hasGroups)
            _groups ??= [];
        if (_scores.Length >= needed && (_groups is null || _groups.Length >= needed))
            return;
        int capacity = (int)Math.Min(Math.Max(needed, Math.Max(1024, _scores.Length * 2L)), Array.MaxLength);
        Array.Resize(ref _scores, capacity);
        Array.Resize(ref _labels, capacity);
        if (_weights is not null)
            Array.Resize(ref _weights, capacity);
        if (_groups is not null)
            Array.Resize(ref _groups, capacity);
    }

    private protected override void CheckLabel(float label, int row)
    {
        if (label is not (>= 0 and <= 1))
            throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"labels[{row}] is {label}; task \"{Task}\" is binary: 0 to 1, or NaN for none"));
    }

    private protected override bool AddRow(ReadOnlySpan<float> prediction, float label, float weight, int group)
    {
        float score = prediction[0];
        if (_kind == ScoreKind.Logit ? !float.IsFinite(score) : score is not (>= 0 and <= 1))
            return false;
        if (weight != 1 && _weights is null)
        {
            _weights = new float[_scores.Length];
            _weights.AsSpan(0, _count).Fill(1);
        }

        _scores[_count] = score;
        _labels[_count] = label;
        if (_weights is not null)
            _weights[_count] = weight;
        if (_groups is not null)
            _groups[_count] = group;
        _count++;
        double probability = Probability(score);
        _loss += weight * Loss(score, label);
        _positive += (double)weight * label;
        _predicted += weight * probability;
        bool decided = _kind == ScoreKind.Logit ? score >= 0 : score >= 0.5f;
        _right += decided == label >= 0.5f ? weight : 0;
        return true;
    }

    private protected override TaskMetrics Evaluate()
    {
        ReadOnlySpan<ulong> order = _order.ByScore(_scores.AsSpan(0, _count));
        double rate = _positive / Weight;
        double entropy = -((rate * Math.Log(rate)) + ((1 - rate) * Math.Log(1 - rate)));
        double loss = _loss / Weight;
        const string oneClass = "all labels are of one class";
        double? auc = Auc(order, out double _);
        MetricValue aucValue = auc is { } area ? MetricValue.Of(MetricCatalog.Auc, area) : MetricValue.None(MetricCatalog.Auc, oneClass);
        IReadOnlyList<CalibrationBin> bins = _binning == CalibrationBinning.EqualWidth ? EqualWidthBins() : EqualCountBins(order);
        return new(
            Task,
            Type,
            Rows,
            Weight,
            rate,
            _predicted / Weight,
            [
                aucValue,
                Gauc(),
                MetricValue.Of(MetricCatalog.LogLoss, loss),
                auc is null || !(entropy > 0) ? MetricValue.None(MetricCatalog.Ne, oneClass) : MetricValue.Of(MetricCatalog.Ne, loss / entropy),
                _positive > 0
                    ? MetricValue.Of(MetricCatalog.Calibration, _predicted / _positive)
                    : MetricValue.None(MetricCatalog.Calibration, "there are no positive labels"),
                MetricValue.Of(MetricCatalog.Accuracy, _right / Weight),
            ],
            bins);
    }

    private protected override void Clear()
    {
        _count = 0;
        _begun = false;
        _weights = null;
        _groups = null;
        _loss = _positive = _predicted = _right = 0;
    }

    private double Probability(float score) => _kind == ScoreKind.Logit ? 1 / (1 + Math.Exp(-(double)score)) : score;

    private double Loss(double score, double label)
    {
        if (_kind == ScoreKind.Logit)
            return Math.Max(score, 0) - (score * label) + LogOnePlus(Math.Exp(-Math.Abs(score)));
        double loss = 0;
        if (label > 0)
            loss -= label * Math.Log(Math.Max(score, LeastProbability));
        if (label < 1)
            loss -= (1 - label) * Math.Log(Math.Max(1 - score, LeastProbability));
        return loss;
    }

    /// <summary>log(1 + x) for x from 0 to 1, right to the last bits for small x as well (Kahan's correction).</summary>
    private static double LogOnePlus(double x)
    {
        double sum = 1 + x;
        return sum == 1 ? x : Math.Log(sum) * (x / (sum - 1));
    }

    /// <summary>
    /// Area under the ROC curve of rows in ascending order of score: the share of (positive, negative) pairs, by weight, that are in the right
    /// order, those of equal score counted half. Null when one class is missing.
    /// </summary>
    private double? Auc(ReadOnlySpan<ulong> order, out double weight)
    {
        double area = 0;
        double positives = 0;
        double negatives = 0;
        for (int i = 0; i < order.Length;)
        {
            float score = _scores[(int)(uint)order[i]];
            double tiedPositive = 0;
            double tiedNegative = 0;
            for (; i < order.Length && _scores[(int)(uint)order[i]] == score; i++)
            {
                int row = (int)(uint)order[i];
                double rowWeight = _weights is null ? 1 : _weights[row];
                double label = _labels[row];
                tiedPositive += rowWeight * label;
                tiedNegative += rowWeight * (1 - label);
            }

            area += tiedPositive * (negatives + (0.5 * tiedNegative));
            positives += tiedPositive;
            negatives += tiedNegative;
        }

        weight = positives + negatives;
        return positives > 0 && negatives > 0 ? area / positives / negatives : null;
    }

    private MetricValue Gauc()
    {
        const string name = MetricCatalog.Gauc;
        if (_groups is null)
            return MetricValue.None(name, "the rows have no groups");
        ReadOnlySpan<ulong> order = _order.ThenByGroup(_groups.AsSpan(0, _count));
        double sum = 0;
        double total = 0;
        for (int start = 0; start < order.Length;)
        {
            int end = start + 1;
            while (end < order.Length && order[end] >> 32 == order[start] >> 32)
                end++;
            if (Auc(order[start..end], out double weight) is { } auc)
            {
                sum += weight * auc;
                total += weight;
            }

            start = end;
        }

        return total > 0 ? MetricValue.Of(name, sum / total) : MetricValue.None(name, "no group has labels of both classes");
    }

    private CalibrationBin[] EqualWidthBins()
    {
        BinSum[] sums = new BinSum[_bins];
        for (int row = 0; row < _count; row++)
        {
            double probability = Probability(_scores[row]);
            sums[Math.Min((int)(probability * _bins), _bins - 1)].Add(probability, _labels[row], _weights is null ? 1 : _weights[row]);
        }

        CalibrationBin[] bins = new CalibrationBin[_bins];
        for (int bin = 0; bin < _bins; bin++)
            bins[bin] = sums[bin].ToBin((double)bin / _bins, (bin + 1d) / _bins);
        return bins;
    }

    private List<CalibrationBin> EqualCountBins(ReadOnlySpan<ulong> order)
    {
        List<CalibrationBin> bins = [];
        int start = 0;
        while (start < order.Length)
        {
            int left = _bins - bins.Count;
            int end = left <= 1 ? order.Length : start + Math.Max(1, (order.Length - start + left - 1) / left);
            while (end < order.Length && _scores[(int)(uint)order[end]] == _scores[(int)(uint)order[end - 1]])
                end++;
            BinSum sum = default;
            foreach (ulong pair in order[start..end])
            {
                int row = (int)(uint)pair;
                sum.Add(Probability(_scores[row]), _labels[row], _weights is null ? 1 : _weights[row]);
            }

            bins.Add(sum.ToBin(Probability(_scores[(int)(uint)order[start]]), Probability(_scores[(int)(uint)order[end - 1]])));
            start = end;
        }

        return bins;
    }

    private struct BinSum
    {
        private long _rows;
        private double _weight;
        private double _prediction;
        private double _label;

        public void Add(double prediction, double label, double weight)
        {
            _rows++;
            _weight += weight;
            _prediction += weight * prediction;
            _label += weight * label;
        }

        public readonly CalibrationBin ToBin(double lower, double upper) =>
            _rows == 0 ? new(lower, upper, 0, 0, null, null) : new(lower, upper, _rows, _weight, _prediction / _weight, _label / _weight);
    }
}
