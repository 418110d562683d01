using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;
using System.Text.Json;
using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Serving;
using CudaMoE.Tests.Support;
using CudaMoE.Tests.Training;
using CudaMoE.Training;

namespace CudaMoE.Tests.Serving;

/// <summary>Predictors answer what a pass over the file answers, to the bit, from many threads, and refuse bad rows alone.</summary>
public sealed class PredictorTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [DeviceData]
    public async Task PredictAsync_RowsOfAFile_AreWhatThePassOverTheFileAnswers(string device)
    {
        string run = Train(device);
        string[][] rows = Rows();
        float[][] expected = PassOverTheFile(run, device);
        using Predictor predictor = Predictor.Open(run, new() { Device = device, MaxBatch = 37 });

        IReadOnlyList<Prediction> together = await predictor.PredictAsync([.. rows.Select(row => Fill(predictor, row))]);
        Prediction alone = await predictor.PredictAsync(Fill(predictor, rows[5]));

        for (int row = 0; row < rows.Length; row++)
            AssertIs(expected[row], together[row]);
        AssertIs(expected[5], alone);
    }

    [Theory]
    [DeviceData]
    public async Task PredictAsync_FromManyThreads_EachGetsItsOwn(string device)
    {
        string run = Train(device);
        string[][] rows = Rows();
        float[][] expected = PassOverTheFile(run, device);
        using Predictor predictor = Predictor.Open(run, new() { Device = device, MaxBatch = 16, MaxQueuedRows = 40 });
        int seed = Random.Shared.Next();

        await Parallel.ForAsync(0, device == TestDevices.Simt ? 40 : 400, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (i, cancellation) =>
        {
            Random random = new(seed + i);
            int first = random.Next(rows.Length - 60), count = random.Next(1, 60);
            IReadOnlyList<Prediction> predictions = await predictor.PredictAsync([.. rows.Skip(first).Take(count).Select(row => Fill(predictor, row))], cancellation);
            Assert.Equal(count, predictions.Count);
            for (int row = 0; row < count; row++)
                AssertIs(expected[first + row], predictions[row]);
        });
    }

    [Theory]
    [DeviceData]
    public async Task PredictAsync_AWrongRowAmongOthers_FailsItsRequestAlone(string device)
    {
        string run = Train(device);
        float[][] expected = PassOverTheFile(run, device);
        string[][] rows = Rows();
        using Predictor predictor = Predictor.Open(run, new() { Device = device });
        FeatureRow wrong = Fill(predictor, rows[1]);
        wrong["age"] = "old";
        Task<IReadOnlyList<Prediction>>[] requests =
        [
            predictor.PredictAsync([Fill(predictor, rows[0]), Fill(predictor, rows[1])]),
            predictor.PredictAsync([Fill(predictor, rows[2]), wrong]),
            predictor.PredictAsync([Fill(predictor, rows[3])]),
        ];

        DataException error = await Assert.ThrowsAsync<DataException>(() => requests[1]);
        Assert.Equal("row 2 of 2: column \"age\": \"old\" is not a finite number; a dense feature takes finite numbers", error.Message);
        AssertIs(expected[1], (await requests[0])[1]);
        AssertIs(expected[3], (await requests[2])[0]);
    }

    [Theory]
    [DeviceData]
    public async Task PredictAsync_ClassesAndGivenTasks_AreRead(string device)
    {
        TrainingFixture.WriteData(_folder.Root, device == TestDevices.Simt ? 300 : 1500);
        ModelDescription description = TrainingFixture.Describe(TrainingFixture.Training(device));
        description = description with
        {
            Tasks =
            [
                description.Tasks[0],
                new() { Name = "like", Type = TaskType.Binary, Given = "click" },
                new() { Name = "liking", Type = TaskType.Multiclass, Column = "like" },
            ],
        };
        string run = Trainer.Train(description, _folder.Root, TrainingFixture.Options(_folder.Root, device)).RunFolder;
        using Predictor predictor = Predictor.Open(run, new() { Device = device });

        Prediction prediction = await predictor.PredictAsync(Fill(predictor, Rows()[0]));

        Assert.Equal(prediction["click"].Value * prediction["like"].Conditional!.Value, prediction["like"].Value, 1e-5f);
        TaskPrediction liking = prediction["liking"];
        Assert.Equal(1, liking.Classes!.Sum(), 1e-5f);
        Assert.Equal(liking.Classes!.Max(), liking.Value);
        Assert.Equal(predictor.Tasks[2].Classes![liking.Classes!.ToList().IndexOf(liking.Value)], liking.Class);
        Assert.Throws<KeyNotFoundException>(() => prediction["share"]);
    }

    [Theory]
    [DeviceData]
    public async Task Set_Json_IsTheSameRow(string device)
    {
        string run = Train(device);
        float[][] expected = PassOverTheFile(run, device);
        string[] fields = Rows()[7];
        using Predictor predictor = Predictor.Open(run, new() { Device = device });
        Assert.Equal(["user", "tags", "age"], predictor.Columns);
        FeatureRow row = predictor.NewRow();
        string tags = JsonSerializer.Serialize(fields[1].Length == 0 ? [] : fields[1].Split('|'));

        row.Set(JsonDocument.Parse($"{{\"age\": {fields[2]}, \"user\": \"{fields[0]}\", \"tags\": {tags}}}").RootElement);

        AssertIs(expected[7], await predictor.PredictAsync(row));
    }

    [Theory]
    [DeviceData]
    public async Task PredictAsync_MissingValues_AreThoseOfAnEmptyField(string device)
    {
        string run = Train(device);
        File.WriteAllText(Path.Combine(_folder.Root, "test.csv"), "user,tags,age\n,,\n");
        float[][] expected = PassOverTheFile(run, device);
        using Predictor predictor = Predictor.Open(run, new() { Device = device });
        FeatureRow row = predictor.NewRow();
        row.Set(JsonDocument.Parse("""{"age": null, "user": null, "tags": []}""").RootElement);

        AssertIs(expected[0], await predictor.PredictAsync(row));
    }

    [Theory]
    [DeviceData]
    public async Task BadRows_AreRefused_WithWhatIsWrong(string device)
    {
        using Predictor predictor = Predictor.Open(Train(device), new() { Device = device });
        FeatureRow row = predictor.NewRow();

        Assert.Equal("the model reads no column \"aeg\"; did you mean \"age\"?", Assert.Throws<DataException>(() => row["aeg"] = 3).Message);
        Assert.Equal("column \"age\": it takes a single value, not a list of 2", Assert.Throws<DataException>(() => row["age"] = new[] { "1", "2" }).Message);
        Assert.Equal(
            "column \"tags\": the value \"a|b\" holds '|', which separates values in the training files",
            Assert.Throws<DataException>(() => row["tags"] = new[] { "a|b" }).Message);
        Assert.Equal("a row is a JSON object of columns and their values, not an array", Assert.Throws<DataException>(() => row.Set(JsonDocument.Parse("[]").RootElement)).Message);
        Assert.Contains("not an object", Assert.Throws<DataException>(() => row.Set(JsonDocument.Parse("""{"age": {}}""").RootElement)).Message, StringComparison.Ordinal);
        Assert.StartsWith("column \"user\": a text holds half of a surrogate pair", Assert.Throws<DataException>(() => row.Set(JsonDocument.Parse("""{"user": "\ud800"}""").RootElement)).Message, StringComparison.Ordinal);
        Assert.StartsWith("column \"tags\": a text holds half of a surrogate pair", Assert.Throws<DataException>(() => row.Set(JsonDocument.Parse("""{"tags": ["\udc00"]}""").RootElement)).Message, StringComparison.Ordinal);
        Assert.StartsWith("the name of a column holds half", Assert.Throws<DataException>(() => row.Set(JsonDocument.Parse("""{"\ud800": 1}""").RootElement)).Message, StringComparison.Ordinal);
        Assert.Equal("column \"tags\": a value of the list is null; leave it out", Assert.Throws<DataException>(() => row["tags"] = new string[] { null! }).Message);
        await Assert.ThrowsAsync<ArgumentNullException>(() => predictor.PredictAsync((IReadOnlyList<FeatureRow>)null!));
        await Assert.ThrowsAsync<ArgumentException>(() => predictor.PredictAsync([null!]));
        row["user"] = "u1";
        Assert.Equal(
            "the row has no value for \"tags\", \"age\"; null says that a value is not known",
            (await Assert.ThrowsAsync<DataException>(() => predictor.PredictAsync(row))).Message);
        using Predictor other = Predictor.Open(predictor.Checkpoint, new() { Device = device });
        await Assert.ThrowsAsync<ArgumentException>(() => other.PredictAsync(row));
        Assert.Empty(await predictor.PredictAsync([]));
    }

    /// <summary>A caller's list may shrink when the call has returned to it.</summary>
    [Fact]
    public async Task PredictAsync_OfAListThatChanges_AnswersWhatItHeld()
    {
        using Predictor predictor = Predictor.Open(Train(TestDevices.Default), new() { Device = TestDevices.Default, MaxBatch = 1 });
        string[][] rows = Rows();
        List<FeatureRow> list = [.. Enumerable.Range(0, 200).Select(i => Fill(predictor, rows[i % rows.Length]))];
        Task<IReadOnlyList<Prediction>> called = predictor.PredictAsync(list);
        list.RemoveRange(1, list.Count - 1);
        Assert.Equal(200, (await called.WaitAsync(TimeSpan.FromMinutes(2))).Count);
        await predictor.PredictAsync(list).WaitAsync(TimeSpan.FromMinutes(2));
    }

    /// <summary>Listeners of the metrics are other code: what they throw harms no request.</summary>
    [Fact]
    public async Task PredictAsync_BesideAListenerThatThrows_Answers()
    {
        using Predictor predictor = Predictor.Open(Train(TestDevices.Default), new() { Device = TestDevices.Default, MaxQueuedRows = 2 });
        FeatureRow row = Fill(predictor, Rows()[0]);
        Prediction quiet = await predictor.PredictAsync(row);
        int told = 0;
        using MeterListener listener = new()
        {
            InstrumentPublished = (instrument, own) =>
            {
                if (instrument.Meter.Name == "CudaMoE.Serving")
                    own.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((_, _, _, _) => Throw());
        listener.SetMeasurementEventCallback<int>((_, _, _, _) => Throw());
        listener.SetMeasurementEventCallback<double>((_, _, _, _) => Throw());
        listener.Start();
        for (int i = 0; i < 5; i++)
            Assert.Equal(quiet.Select(task => task.Value), (await predictor.PredictAsync([row, row]).WaitAsync(TimeSpan.FromMinutes(2)))[1].Select(task => task.Value));
        Assert.True(Volatile.Read(ref told) >= 10);

        void Throw()
        {
            Interlocked.Increment(ref told);
            throw new InvalidOperationException("a listener's defect");
        }
    }

    [Theory]
    [DeviceData]
    public async Task Dispose_AndCancellation_EndTheWait(string device)
    {
        string run = Train(device);
        string[][] rows = Rows();
        Predictor predictor = Predictor.Open(run, new() { Device = device, MaxBatch = 1 });
        FeatureRow[] many = [.. Enumerable.Range(0, 20_000).Select(i => Fill(predictor, rows[i % rows.Length]))];
        using CancellationTokenSource cancelled = new();

        Task<IReadOnlyList<Prediction>> running = predictor.PredictAsync(many), called = predictor.PredictAsync([many[0]], cancelled.Token);
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => called);
        predictor.Dispose();
        predictor.Dispose();

        // It was disposed long before 20,000 passes were over, unless the machine held this thread back for as long.
        Exception? end = await Record.ExceptionAsync(() => running);
        Assert.True(end is ObjectDisposedException or null, end?.ToString());
        await Assert.ThrowsAsync<ObjectDisposedException>(() => predictor.PredictAsync([many[0]]));
    }

    [Theory]
    [DeviceData]
    public async Task DisposeAsync_AnswersWhatWasAsked_RefusesWhatComesThen(string device)
    {
        string run = Train(device);
        float[][] expected = PassOverTheFile(run, device);
        string[][] rows = Rows();
        // Of the requests one runs, one waits in the queue and the others for room in it.
        Predictor predictor = Predictor.Open(run, new() { Device = device, MaxBatch = 1, MaxQueuedRows = 8 });
        FeatureRow late = Fill(predictor, rows[0]);
        Task<IReadOnlyList<Prediction>>[] asked = [.. Enumerable.Range(0, 10).Select(i => predictor.PredictAsync([.. rows.Skip(i).Take(5).Select(row => Fill(predictor, row))]))];

        Task disposed = predictor.DisposeAsync().AsTask();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => predictor.PredictAsync(late));
        await Assert.ThrowsAsync<ObjectDisposedException>(() => predictor.PredictAsync([]));
        await disposed.WaitAsync(TimeSpan.FromMinutes(2));

        for (int i = 0; i < asked.Length; i++)
        {
            IReadOnlyList<Prediction> predictions = await asked[i].WaitAsync(TimeSpan.FromMinutes(2));
            for (int row = 0; row < 5; row++)
                AssertIs(expected[i + row], predictions[row]);
        }

        await predictor.DisposeAsync();
        predictor.Dispose();
    }

    [Fact]
    public async Task Dispose_BesideDisposeAsync_CutsItShort()
    {
        Predictor predictor = Predictor.Open(Train(TestDevices.Default), new() { Device = TestDevices.Default, MaxBatch = 1 });
        string[][] rows = Rows();
        Task<IReadOnlyList<Prediction>> running = predictor.PredictAsync([.. Enumerable.Range(0, 20_000).Select(i => Fill(predictor, rows[i % rows.Length]))]);
        Task disposed = predictor.DisposeAsync().AsTask();
        predictor.Dispose();
        Exception? end = await Record.ExceptionAsync(() => running.WaitAsync(TimeSpan.FromMinutes(2)));
        Assert.True(end is ObjectDisposedException or null, end?.ToString());
        await disposed.WaitAsync(TimeSpan.FromMinutes(2));
    }

    /// <summary>Callers that come and leave while it is disposed are answered or refused, and it ends.</summary>
    [Fact]
    public async Task DisposeAsync_WhileManyAskAndCancel_AnswersOrRefusesEach()
    {
        string run = Train(TestDevices.Default);
        string[][] rows = Rows();
        for (int trial = 0; trial < 10; trial++)
        {
            Predictor predictor = Predictor.Open(run, new() { Device = TestDevices.Default, MaxBatch = 4, MaxQueuedRows = 6 });
            int answered = 0;
            Task[] callers = [.. Enumerable.Range(0, 8).Select(caller => Task.Run(async () =>
            {
                for (int i = 0; ; i++)
                {
                    using CancellationTokenSource cancelled = new();
                    FeatureRow row = Fill(predictor, rows[(caller + i) % rows.Length]);
                    try
                    {
                        Task<IReadOnlyList<Prediction>> called = predictor.PredictAsync([row, row], cancelled.Token);
                        if (i % 5 == caller % 5)
                            await cancelled.CancelAsync();
                        await called;
                        Interlocked.Increment(ref answered);
                    }
                    catch (OperationCanceledException)
                    {
                        continue;
                    }
                    catch (ObjectDisposedException)
                    {
                        return;
                    }
                }
            }))];
            SpinWait.SpinUntil(() => Volatile.Read(ref answered) > 20 * trial, TimeSpan.FromMinutes(2));
            await predictor.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromMinutes(2));
            await Task.WhenAll(callers).WaitAsync(TimeSpan.FromMinutes(2));
        }
    }

    [SimtFact]
    public async Task QueryFault_DeviceFails_SaysWhyUntilAnotherIsOpened()
    {
        const string reason = "failed as the option fault asked for";
        string run = Train(TestDevices.Default);
        string[] fields = Rows()[0];
        Predictor predictor = Predictor.Open(run, new() { Device = "simt:fault=20" });
        Assert.Null(predictor.QueryFault());
        FeatureRow wrong = predictor.NewRow();
        await Assert.ThrowsAsync<DataException>(() => predictor.PredictAsync(wrong));
        Assert.Null(predictor.QueryFault());

        Exception? error = null;
        for (int i = 0; i < 100 && error is null; i++)
            error = await Record.ExceptionAsync(() => predictor.PredictAsync(Fill(predictor, fields)));

        Assert.Contains(reason, Assert.IsType<DeviceException>(error).Message, StringComparison.Ordinal);
        Assert.Equal($"the device simt:fault=20 failed: {error.Message}", predictor.QueryFault());
        Assert.Contains(reason, (await Assert.ThrowsAsync<DeviceException>(() => predictor.PredictAsync(Fill(predictor, fields)))).Message, StringComparison.Ordinal);
        await predictor.DisposeAsync();
        Assert.Equal("the predictor was disposed", predictor.QueryFault());

        using Predictor next = Predictor.Open(run, new() { Device = TestDevices.Simt });
        await next.PredictAsync(Fill(next, fields));
        Assert.Null(next.QueryFault());
    }

    /// <summary>A health check may come while the predictor is freed.</summary>
    [Theory]
    [DeviceData]
    public async Task QueryFault_BesideDispose_Answers(string device)
    {
        string run = Train(device);
        for (int trial = 0; trial < 5; trial++)
        {
            Predictor predictor = Predictor.Open(run, new() { Device = device });
            using ManualResetEventSlim asked = new();
            Task<string> asking = Task.Run(() =>
            {
                string? fault = predictor.QueryFault();
                asked.Set();
                for (; fault is null; fault = predictor.QueryFault())
                    Thread.Yield();
                return fault;
            });
            asked.Wait();
            predictor.Dispose();
            Assert.Equal("the predictor was disposed", await asking);
        }
    }

    /// <summary>What goes wrong with a request after its caller left is told to nobody, the process's handler of unobserved errors included.</summary>
    [Fact]
    public async Task PredictAsync_CancelledAndFailedThen_LeavesNoUnobservedError()
    {
        string run = Train(TestDevices.Default);
        ConcurrentBag<Exception> unobserved = [];
        InvalidOperationException dropped = new("dropped by the test");
        EventHandler<UnobservedTaskExceptionEventArgs> listen = (_, told) =>
        {
            foreach (Exception error in told.Exception.InnerExceptions)
                unobserved.Add(error);
        };
        TaskScheduler.UnobservedTaskException += listen;
        try
        {
            await LeaveRequests(run);
            Drop(dropped);
            // The error that the test drops shows that the collector came by.
            for (int collection = 0; collection < 100 && !unobserved.Contains(dropped); collection++)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }

            Assert.Contains(dropped, unobserved);
            Assert.DoesNotContain(unobserved, error => error is DataException || (error is ObjectDisposedException { ObjectName: var name } && name.EndsWith(nameof(Predictor), StringComparison.Ordinal)));
        }
        finally
        {
            TaskScheduler.UnobservedTaskException -= listen;
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Drop(Exception error) => Task.FromException(error);
    }

    // Requests of which each is cancelled, and has a wrong row or is in the queue of a predictor that is disposed.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private async Task LeaveRequests(string run)
    {
        string[][] rows = Rows();
        Predictor predictor = Predictor.Open(run, new() { Device = TestDevices.Default, MaxBatch = 1 });
        FeatureRow wrong = Fill(predictor, rows[1]);
        wrong["age"] = "old";
        for (int i = 0; i < 200; i++)
        {
            using CancellationTokenSource leaves = new();
            Task<Prediction> failing = predictor.PredictAsync(wrong, leaves.Token);
            Thread.SpinWait(i * 50);
            await leaves.CancelAsync();
            Assert.NotNull(await Record.ExceptionAsync(() => failing));
        }

        using CancellationTokenSource left = new();
        Task<IReadOnlyList<Prediction>> running = predictor.PredictAsync([.. Enumerable.Range(0, 20_000).Select(i => Fill(predictor, rows[i % rows.Length]))], left.Token);
        Task<Prediction> waiting = predictor.PredictAsync(wrong, left.Token);
        await left.CancelAsync();
        predictor.Dispose();
        Assert.NotNull(await Record.ExceptionAsync(() => waiting));
        await Record.ExceptionAsync(() => running);
    }

    [Fact]
    public void Open_WithoutACheckpoint_SaysSo()
    {
        Assert.Contains("there is no checkpoint here", Assert.Throws<CheckpointFormatException>(() => Predictor.Open(_folder.Root)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => Predictor.Open(_folder.Root, new() { MaxBatch = 0 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => Predictor.Open(_folder.Root, new() { MaxQueuedRows = 0 }));
    }

    [Theory]
    [DeviceData]
    public void TrainedModel_CheckpointDeletedAfterItWasVerified_LoadsTheNewerOne(string device)
    {
        string run = Train(device);
        using TrainedModel content = TrainedModel.Open(run, device, 1);
        long before = content.Checkpoint.State.Step;
        List<string> offered = [];
        using TrainedModel loaded = CheckpointStore.Load(run, checkpoint =>
        {
            offered.Add(checkpoint.Folder);
            if (offered.Count == 1)
                Save(run, content, before + 1);
            return TrainedModel.Open(checkpoint, device, 1);
        })!;
        Assert.Equal(before + 1, loaded.Checkpoint.State.Step);
        Assert.Equal([content.Checkpoint.Folder, loaded.Checkpoint.Folder], offered);
        CheckpointFormatException error = Assert.Throws<CheckpointFormatException>(() => TrainedModel.Open(content.Checkpoint, device, 1));
        Assert.Equal(content.Checkpoint.Folder, error.File);
    }

    [Fact]
    public async Task Open_WhileTheRunSavesAndPrunes_AlwaysLoadsAWholeCheckpoint()
    {
        string run = Train(TestDevices.Default);
        using TrainedModel content = TrainedModel.Open(run, TestDevices.Default, 1);
        long last = content.Checkpoint.State.Step;
        using CancellationTokenSource stop = new();
        Task saving = Task.Run(() =>
        {
            for (long step = last + 1; !stop.IsCancellationRequested; step++)
                Save(run, content, step);
        });
        try
        {
            for (int open = 0; open < 20; open++)
            {
                using Predictor predictor = Predictor.Open(run, new() { Device = TestDevices.Default });
                using TrainedModel model = TrainedModel.Open(run, TestDevices.Default, 1);
                Assert.True(model.Checkpoint.State.Step >= last);
                last = model.Checkpoint.State.Step;
            }
        }
        finally
        {
            await stop.CancelAsync();
            await saving;
        }
    }

    // As a run that goes on training: a new checkpoint, and the older ones go.
    private static void Save(string run, TrainedModel model, long step) =>
        new CheckpointStore(Path.Combine(run, "checkpoints"), keep: 1).Save(ModelCheckpoint.Content(model.Model, model.Encoders, model.Checkpoint.State with { Step = step }));

    private string Train(string device)
    {
        TrainingFixture.WriteData(_folder.Root, device == TestDevices.Simt ? 300 : 1500);
        return Trainer.Train(TrainingFixture.Describe(TrainingFixture.Training(device)), _folder.Root, TrainingFixture.Options(_folder.Root, device)).RunFolder;
    }

    private string[][] Rows() => [.. File.ReadLines(Path.Combine(_folder.Root, "test.csv")).Skip(1).Select(line => line.Split(','))];

    // The predictions of each row, a number a task.
    private float[][] PassOverTheFile(string run, string device)
    {
        using TrainedModel model = TrainedModel.Open(run, device, 64);
        using PredictionReader reader = Dataset.OpenForPrediction(model.Encoders, Path.Combine(_folder.Root, "test.csv"));
        using Batch batch = new(reader.Layout, 64);
        List<float[]> rows = [];
        float[] values = new float[64];
        while (reader.Read(batch))
        {
            model.Model.Forward(batch);
            model.Model.Stream.Synchronize();
            int first = rows.Count;
            for (int row = 0; row < batch.Rows; row++)
                rows.Add(new float[model.Encoders.Tasks.Count]);
            for (int task = 0; task < model.Encoders.Tasks.Count; task++)
            {
                Predictions.Read(model.Model, task, values);
                FittedTask fitted = model.Encoders.Tasks[task];
                for (int row = 0; row < batch.Rows; row++)
                    rows[first + row][task] = fitted.Description.Type == TaskType.Regression ? (float)fitted.Restore(values[row]) : values[row];
            }
        }

        return [.. rows];
    }

    private static FeatureRow Fill(Predictor predictor, string[] fields)
    {
        FeatureRow row = predictor.NewRow();
        row["user"] = fields[0];
        row["tags"] = fields[1].Length == 0 ? FeatureValue.Missing : fields[1].Split('|');
        row["age"] = fields[2].Length == 0 ? FeatureValue.Missing : double.Parse(fields[2], System.Globalization.CultureInfo.InvariantCulture);
        return row;
    }

    private static void AssertIs(float[] expected, Prediction prediction)
    {
        Assert.Equal(expected.Length, prediction.Count);
        for (int task = 0; task < expected.Length; task++)
            Assert.Equal(BitConverter.SingleToInt32Bits(expected[task]), BitConverter.SingleToInt32Bits(prediction[task].Value));
    }
}
