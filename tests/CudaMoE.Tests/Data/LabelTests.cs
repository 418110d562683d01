using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Data;

/// <summary>Labels, weights, masks and groups.</summary>
public sealed class LabelTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Binary_PositiveTexts_AreOne()
    {
        TaskDescription task = Describe.Y with { Positive = ["yes", "sure"] };
        using Dataset data = Open(task, "x,y\n1,yes\n1,no\n1,\n1,sure\n1,Yes\n");
        Assert.Equal([1, 0, float.NaN, 1, 0], Labels(data));
        Assert.Equal([1, 1, 1, 1, 1], Weights(data));
        FittedTask fitted = data.Encoders.Tasks[0];
        Assert.Equal((4, 1, 0.5), (fitted.Trained, fitted.Missing, fitted.LabelMean));
        Assert.Empty(data.Notices);
    }

    [Fact]
    public void Binary_PositiveTextThatNeverOccurs_IsToldOrRefused()
    {
        using Dataset data = Open(Describe.Y with { Positive = ["yes", "sure"] }, "x,y\n1,yes\n1,no\n");
        Assert.Equal("task \"y\": no training row holds the positive text \"sure\"", Assert.Single(data.Notices));
        DataException error = Assert.Throws<DataException>(() => Open(Describe.Y with { Positive = [" yes"] }, "x,y\n1,yes\n1,no\n"));
        Assert.Contains("no training row holds any of its positive texts (\" yes\")", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Binary_Numbers_AreProbabilities()
    {
        using Dataset data = Open(Describe.Y, "x,y\n1,0\n1,1\n1,0.25\n1,\n");
        Assert.Equal([0, 1, 0.25f, float.NaN], Labels(data));
        AssertFails(Describe.Y, "x,y\n1,0\n1,2\n", 3, "the label 2 is out of range; a binary label is a number from 0 to 1");
        AssertFails(Describe.Y, "x,y\n1,yes\n", 2, "\"yes\" is not a finite number; a binary label is a number from 0 to 1, or the task lists its positive texts");
    }

    [Fact]
    public void Multiclass_Classes_AreGivenOrSorted()
    {
        TaskDescription task = Describe.Y with { Type = TaskType.Multiclass };
        using Dataset numbers = Open(task, "x,y\n1,10\n1,9\n1,\n1,-1\n1,9\n");
        Assert.Equal(["-1", "9", "10"], numbers.Encoders.Tasks[0].Classes);
        Assert.Equal([1, 2, 1], numbers.Encoders.Tasks[0].ClassCounts);
        Assert.Equal([2, 1, float.NaN, 0, 1], Labels(numbers));
        Assert.Equal(3, numbers.Encoders.Tasks[0].Outputs);
        using Dataset texts = Open(task, "x,y\n1,b\n1,10\n1,9\n");
        Assert.Equal(["10", "9", "b"], texts.Encoders.Tasks[0].Classes);
        using Dataset given = Open(task with { Classes = ["b", "a", "z"] }, "x,y\n1,a\n1,b\n");
        Assert.Equal([1, 0], Labels(given));
        Assert.Equal([1, 1, 0], given.Encoders.Tasks[0].ClassCounts);
        AssertFails(task with { Classes = ["b", "a"] }, "x,y\n1,a\n1,c\n", 3, "\"c\" is not one of the 2 classes of the task (b, a)");
    }

    [Fact]
    public void Multiclass_ClassOfTheTestRowsOnly_IsRefusedWithAdvice()
    {
        _folder.Write("train.csv", "x,y\n1,a\n1,b\n");
        _folder.Write("test.csv", "x,y\n1,a\n1,c\n");
        ModelDescription model = Describe.Model(
            [Describe.X], [Describe.Y with { Type = TaskType.Multiclass }], new() { Train = ["train.csv"], Test = ["test.csv"] });
        DataException error = Assert.Throws<DataException>(() => Dataset.Open(model, _folder.Root));
        Assert.Contains("test.csv, line 3, column \"y\": \"c\" is not one of the 2 classes that the training rows hold; list all classes", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Regression_Transforms_EqualThePlainFormulaAndComeBack()
    {
        TaskDescription task = Describe.Y with { Type = TaskType.Regression };
        const string Text = "x,y\n1,3\n1,5\n1,\n1,10\n";
        double deviation = Math.Sqrt((9 + 1 + 16) / 3.0);
        using Dataset none = Open(task, Text);
        Assert.Equal([3, 5, float.NaN, 10], Labels(none));
        using Dataset standard = Open(task with { Transform = LabelTransform.Standardize }, Text);
        Assert.Equal([(float)(-3 / deviation), (float)(-1 / deviation), float.NaN, (float)(4 / deviation)], Labels(standard));
        using Dataset log = Open(task with { Transform = LabelTransform.Log }, Text);
        Assert.Equal([(float)Math.Log(4), (float)Math.Log(6), float.NaN, (float)Math.Log(11)], Labels(log));
        foreach (Dataset data in new[] { none, standard, log })
            Assert.Equal(10, data.Encoders.Tasks[0].Restore(Labels(data)[3]), 5);
        AssertFails(task with { Transform = LabelTransform.Log }, "x,y\n1,2\n1,-1\n", 3, "the label -1 is below 0, which the transform log does not take");
        using Dataset constant = Open(task with { Transform = LabelTransform.Standardize }, "x,y\n1,3\n1,3\n");
        Assert.Equal([0, 0], Labels(constant));
        Assert.Equal(3, constant.Encoders.Tasks[0].Restore(0));
    }

    [Fact]
    public void Weights_ColumnAndMask_GiveTheProduct()
    {
        TaskDescription task = Describe.Y with { Type = TaskType.Regression, WeightColumn = "w", Mask = new() { Column = "m", In = ["1", "both"] } };
        using Dataset data = Open(task, "x,y,w,m\n1,3,0.5,1\n1,9,2,0\n1,5,1,both\n1,7,0,1\n");
        Assert.Equal([0.5f, 0, 1, 0], Weights(data));
        Assert.Equal([3, 9, 5, 7], Labels(data));
        FittedTask fitted = data.Encoders.Tasks[0];
        Assert.Equal((2, 1, 4.0), (fitted.Trained, fitted.Masked, fitted.LabelMean));
        AssertFails(task, "x,y,w,m\n1,3,-1,1\n", 2, "the weight -1 must be finite and at least 0", "w");
        AssertFails(task, "x,y,w,m\n1,3,,1\n", 2, "\"\" is not a finite number; a sample weight is a number of at least 0", "w");
    }

    [Fact]
    public void Multiclass_ClassesOfMaskedRows_AreNoClasses()
    {
        TaskDescription task = Describe.Y with { Type = TaskType.Multiclass, Mask = new() { Column = "x", In = ["1"] } };
        using Dataset data = Open(task, "x,y\n1,a\n0,none\n1,b\n");
        Assert.Equal(["a", "b"], data.Encoders.Tasks[0].Classes);
        Assert.Equal([0, float.NaN, 1], Labels(data));
        Assert.Equal([1, 0, 1], Weights(data));
    }

    [Fact]
    public void Multiclass_OneClass_IsRefusedUnlessTheOthersAreListed()
    {
        TaskDescription task = Describe.Y with { Type = TaskType.Multiclass };
        DataException error = Assert.Throws<DataException>(() => Open(task, "x,y\n1,a\n2,a\n3,\n"));
        Assert.Contains("task \"y\" is multiclass, but all its training rows are of the class \"a\"", error.Message, StringComparison.Ordinal);
        using Dataset listed = Open(task with { Classes = ["a", "b"] }, "x,y\n1,a\n2,a\n3,\n");
        Assert.Equal([2, 0], listed.Encoders.Tasks[0].ClassCounts);
    }

    [Fact]
    public void Open_TaskWithoutAnyLabel_IsRefused()
    {
        DataException error = Assert.Throws<DataException>(() => Open(Describe.Y, "x,y\n1,\n2,\n"));
        Assert.Contains("task \"y\" has no training row with a label", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Groups_Column_IsNumberedAcrossSplits()
    {
        _folder.Write("train.csv", "x,y,u\n1,0,a\n1,1,b\n1,1,a\n");
        _folder.Write("test.csv", "x,y,u\n1,0,c\n1,1,b\n1,1,\n");
        using Dataset data = Dataset.Open(
            Describe.Model([Describe.X], [Describe.Y], new() { Train = ["train.csv"], Test = ["test.csv"], GroupColumn = "u" }), _folder.Root);
        using Batch batch = new(data.Layout, 3);
        data.Train.Gather([0, 1, 2], batch);
        Assert.Equal([0, 1, 0], batch.Groups);
        data.Test!.Gather([0, 1, 2], batch);
        Assert.Equal([2, 1, 3], batch.Groups);
    }

    [Fact]
    public void Open_ColumnsOfTasksThatAreNotThere_AreNamed()
    {
        void AssertNames(TaskDescription task, string rule)
        {
            DataException error = Assert.Throws<DataException>(() => Open(task, "x,y\n1,1\n"));
            Assert.Contains(rule, error.Message, StringComparison.Ordinal);
        }

        AssertNames(Describe.Y with { Column = "yy" }, "task \"y\" needs the column \"yy\", which the file does not have; it has x, y");
        AssertNames(Describe.Y with { WeightColumn = "w1" }, "task \"y\", weight_column, needs the column \"w1\"");
        AssertNames(Describe.Y with { Mask = new() { Column = "m1", In = ["1"] } }, "task \"y\", mask, needs the column \"m1\"");
    }

    private static float[] Labels(Dataset data)
    {
        using Batch batch = All(data);
        return batch.Labels(0).ToArray();
    }

    private static float[] Weights(Dataset data)
    {
        using Batch batch = All(data);
        return batch.Weights(0).ToArray();
    }

    private static Batch All(Dataset data)
    {
        Batch batch = new(data.Layout, (int)data.Train.Rows);
        data.Train.Gather([.. Enumerable.Range(0, (int)data.Train.Rows).Select(i => (long)i)], batch);
        return batch;
    }

    private void AssertFails(TaskDescription task, string text, long line, string rule, string column = "y")
    {
        DataException error = Assert.Throws<DataException>(() => Open(task, text));
        Assert.Contains($"train.csv, line {line}, column \"{column}\": {rule}", error.Message, StringComparison.Ordinal);
    }

    private Dataset Open(TaskDescription task, string text)
    {
        _folder.Write("train.csv", text);
        return Dataset.Open(Describe.Model([Describe.X], [task]), _folder.Root);
    }
}
