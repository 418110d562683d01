using System.Diagnostics;
using System.Threading.Channels;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;

namespace CudaMoE.Serving;

/// <summary>
/// A trained model that answers rows from any number of threads, as a service needs it. One thread of its own runs the model; rows that arrive while it is busy wait
/// and run together in its next pass, so a busy service works in large batches and an idle one answers a row at once.
/// </summary>
/// <remarks>Thread-safe. What a row is predicted to be does not depend on the rows beside it.</remarks>
public sealed class Predictor : IDisposable, IAsyncDisposable
{
    private readonly TrainedModel _model;
    private readonly PredictorOptions _options;
    private readonly InputColumns _columns;
    private readonly RowEncoder _encoder;
    private readonly BatchFiller _filler;
    private readonly Batch _batch;
    private readonly Batch _single;
    private readonly ForwardCapture? _singleCapture;
    private readonly float[][] _values;
    private readonly float[]?[] _conditional;
    private readonly Channel<Request> _requests = Channel.CreateUnbounded<Request>(new() { SingleReader = true });
    private readonly SemaphoreSlim _room;
    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly Thread _thread;
    private readonly List<(Request Request, int Row)> _running = [];
    private readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _freed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _freeing = new();
    private int _closed;
    private volatile bool _ended;
    private volatile string? _deviceError;

    // Calls that have not come back, and one more until it is closed.
    private int _calls = 1;

    private Predictor(TrainedModel model, PredictorOptions options)
    {
        _model = model;
        _options = options;
        _columns = new(model.Encoders);
        _encoder = new(model.Encoders, withLabels: false, model.Encoders.Format);
        _encoder.BindFeatures(new FeatureRow(_columns));
        BatchLayout layout = model.Encoders.Layout;
        _filler = new(layout);
        _batch = new(layout, options.MaxBatch);
        _single = new(layout, 1);
        _singleCapture = model.Model.CanCaptureForward ? model.Model.CaptureForward(_single) : null;
        _values = [.. model.Model.Outputs.Select(outputs => new float[outputs * options.MaxBatch])];
        _conditional = [.. model.Encoders.Tasks.Select(task => task.Description.Given == null ? null : new float[options.MaxBatch])];
        _room = new(options.MaxQueuedRows, options.MaxQueuedRows);
        _thread = new(Work) { IsBackground = true, Name = "CudaMoE predictor" };
        _thread.Start();
    }

    /// <summary>Loads a checkpoint.</summary>
    /// <param name="checkpoint">A checkpoint, or a run folder, which means its best checkpoint, or the latest where none is the best.</param>
    /// <param name="options">Null: the defaults.</param>
    /// <exception cref="CudaMoEException">There is no checkpoint, it was altered, it was not made by a training run, or the device cannot be had.</exception>
    public static Predictor Open(string checkpoint, PredictorOptions? options = null)
    {
        options ??= new();
        if (options.MaxBatch < 1)
            throw new ArgumentOutOfRangeException(nameof(options), $"MaxBatch is {options.MaxBatch}; it must be at least 1");
        if (options.MaxQueuedRows < 1)
            throw new ArgumentOutOfRangeException(nameof(options), $"MaxQueuedRows is {options.MaxQueuedRows}; it must be at least 1");
        TrainedModel model = TrainedModel.Open(checkpoint, options.Device, options.MaxBatch);
        try
        {
            return new(model, options);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>The columns that the model reads. A row needs a value for each.</summary>
    public IReadOnlyList<string> Columns => _columns.Names;

    /// <summary>The tasks that it predicts, in order.</summary>
    public IReadOnlyList<FittedTask> Tasks => _model.Encoders.Tasks;

    /// <summary>The checkpoint that was loaded.</summary>
    public string Checkpoint => _model.Checkpoint.Folder;

    /// <summary>Why every request fails, whatever its rows: the predictor was disposed, or a kernel failed on its device, whose memory is lost with that. For health checks.</summary>
    /// <returns>A sentence; null while requests are answered.</returns>
    public string? QueryFault()
    {
        lock (_freeing)
        {
            if (Volatile.Read(ref _closed) != 0)
                return "the predictor was disposed";
            return _model.Device.QueryInfo().Faulted ? $"the device {_model.Device.Spec} failed: {_deviceError ?? "a kernel failed on it"}" : null;
        }
    }

    /// <summary>A row without values, to be filled.</summary>
    public FeatureRow NewRow() => new(_columns);

    /// <summary>Predicts all tasks of one row.</summary>
    /// <param name="row">A row that <see cref="NewRow"/> of this predictor made, with a value for every column.</param>
    /// <param name="cancellation">Ends the wait; a row that runs already is not called back.</param>
    /// <exception cref="DataException">A value is missing or breaks a rule.</exception>
    /// <exception cref="DeviceException">The device failed; <see cref="QueryFault"/> says whether it is lost.</exception>
    /// <exception cref="ObjectDisposedException">The predictor was disposed before the call, or by <see cref="Dispose"/> before the row ran.</exception>
    public async Task<Prediction> PredictAsync(FeatureRow row, CancellationToken cancellation = default) => (await PredictAsync([row], cancellation).ConfigureAwait(false))[0];

    /// <summary>Predicts all tasks of several rows.</summary>
    /// <param name="rows">Rows that <see cref="NewRow"/> of this predictor made, each with a value for every column. One that is wrong fails all. The list may change when the call has returned; the rows may not before they are answered.</param>
    /// <param name="cancellation">Ends the wait; rows that run already are not called back.</param>
    /// <returns>A prediction a row, in the order of the rows.</returns>
    /// <exception cref="ArgumentException">The list or a row is null, or a row was made by another predictor.</exception>
    /// <exception cref="DataException">A value is missing or breaks a rule; the message names the row where there are several.</exception>
    /// <exception cref="DeviceException">The device failed; <see cref="QueryFault"/> says whether it is lost.</exception>
    /// <exception cref="ObjectDisposedException">The predictor was disposed before the call, or by <see cref="Dispose"/> before the rows ran.</exception>
    public async Task<IReadOnlyList<Prediction>> PredictAsync(IReadOnlyList<FeatureRow> rows, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(rows);
        Interlocked.Increment(ref _calls);
        try
        {
            ObjectDisposedException.ThrowIf(Volatile.Read(ref _closed) != 0, this);
            // The caller's list may change when this has returned to it.
            FeatureRow[] own = [.. rows];
            foreach (FeatureRow? row in own)
            {
                if (row is null)
                    throw new ArgumentException("a row is null", nameof(rows));
                if (row.Columns != _columns)
                    throw new ArgumentException("a row was made by another predictor; call NewRow of this one", nameof(rows));
            }

            if (own.Length == 0)
                return [];
            int places = Math.Min(own.Length, _options.MaxQueuedRows);
            await TakeRoom(places, cancellation).ConfigureAwait(false);
            Request request = new(own);
            PredictorMetrics.Waiting(own.Length);
            try
            {
                ObjectDisposedException.ThrowIf(!_requests.Writer.TryWrite(request), this);
                // The request itself is cancelled, not a wait beside it: an error that it met later would be nobody's.
                using CancellationTokenRegistration left = cancellation.UnsafeRegister(static (asked, token) => ((Request)asked!).Completion.TrySetCanceled(token), request);
                return await request.Completion.Task.ConfigureAwait(false);
            }
            catch
            {
                PredictorMetrics.Failed();
                throw;
            }
            finally
            {
                PredictorMetrics.Waiting(-own.Length);
                _room.Release(places);
            }
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>Ends after the pass that runs, and frees the model. What still waits fails with <see cref="ObjectDisposedException"/>; <see cref="DisposeAsync"/> answers it.</summary>
    public void Dispose()
    {
        _ended = true;
        Close();
        _requests.Writer.TryComplete();
        _thread.Join();
    }

    /// <summary>
    /// Refuses new requests with <see cref="ObjectDisposedException"/>, answers those that were made before, and frees the model. <see cref="Dispose"/> beside it cuts that short.
    /// </summary>
    /// <returns>Ends when the model is freed.</returns>
    public async ValueTask DisposeAsync()
    {
        Close();
        await _drained.Task.ConfigureAwait(false);
        _requests.Writer.TryComplete();
        await _freed.Task.ConfigureAwait(false);
    }

    private void Close()
    {
        if (Interlocked.Exchange(ref _closed, 1) == 0)
            Leave();
    }

    private void Leave()
    {
        // A call that is refused may come to the last of them again.
        if (Interlocked.Decrement(ref _calls) == 0)
            _drained.TrySetResult();
    }

    // One caller after the other, so that two that need many places do not each hold a part of them.
    private async Task TakeRoom(int places, CancellationToken cancellation)
    {
        await _turn.WaitAsync(cancellation).ConfigureAwait(false);
        int taken = 0;
        try
        {
            for (; taken < places; taken++)
                await _room.WaitAsync(cancellation).ConfigureAwait(false);
        }
        catch
        {
            if (taken > 0)
                _room.Release(taken);
            throw;
        }
        finally
        {
            _turn.Release();
        }
    }

    private void Work()
    {
        ChannelReader<Request> reader = _requests.Reader;
        Request? request = null;
        int next = 0;
        while (request is not null || reader.WaitToReadAsync().AsTask().GetAwaiter().GetResult())
        {
            _running.Clear();
            while (_running.Count < _options.MaxBatch && (request is not null || reader.TryRead(out request)))
            {
                if (_ended)
                    request.Completion.TrySetException(new ObjectDisposedException(nameof(Predictor)));
                while (_running.Count < _options.MaxBatch && next < request.Rows.Length && !request.Completion.Task.IsCompleted)
                    _running.Add((request, next++));
                if (next == request.Rows.Length || request.Completion.Task.IsCompleted)
                    (request, next) = (null, 0);
            }

            Run();
        }

        lock (_freeing)
        {
            _singleCapture?.Dispose();
            _single.Dispose();
            _batch.Dispose();
            _model.Dispose();
        }

        _freed.SetResult();
    }

    private void Run()
    {
        long started = Stopwatch.GetTimestamp();
        Batch batch = _running.Count == 1 ? _single : _batch;
        try
        {
            Encode(batch);
            if (batch.Rows == 0)
                return;
            if (batch == _single && _singleCapture is not null)
                _singleCapture.Run();
            else
                _model.Model.Forward(batch);
            _model.Model.Stream.Synchronize();
            Complete(batch.Rows);
        }
        catch (Exception error)
        {
            if (error is DeviceException)
                _deviceError ??= error.Message;
            foreach ((Request request, int _) in _running)
                request.Completion.TrySetException(error);
            return;
        }

        PredictorMetrics.Pass(batch.Rows, Stopwatch.GetElapsedTime(started));
    }

    // A row that is wrong fails its request alone; the others of the batch run.
    private void Encode(Batch batch)
    {
        _filler.Begin(batch);
        int kept = 0;
        for (int i = 0; i < _running.Count; i++)
        {
            (Request request, int row) = _running[i];
            if (request.Completion.Task.IsCompleted)
                continue;
            try
            {
                _encoder.EncodeFeatures(request.Rows[row]);
            }
            catch (DataException error)
            {
                request.Completion.TrySetException(request.Rows.Length == 1 ? error : new DataException($"row {row + 1} of {request.Rows.Length}: {error.Message}", error));
                continue;
            }

            _filler.Add(batch, _encoder);
            _running[kept++] = (request, row);
        }

        _running.RemoveRange(kept, _running.Count - kept);
        _filler.End(batch);
    }

    private void Complete(int rows)
    {
        for (int task = 0; task < _values.Length; task++)
        {
            Predictions.Read(_model.Model, task, _values[task]);
            if (_conditional[task] is { } conditional)
                Predictions.ReadConditional(_model.Model, task, conditional);
        }

        for (int row = 0; row < rows; row++)
        {
            TaskPrediction[] tasks = new TaskPrediction[_values.Length];
            for (int task = 0; task < tasks.Length; task++)
                tasks[task] = Read(task, row);
            (Request request, int place) = _running[row];
            request.Set(place, new(tasks));
        }
    }

    private TaskPrediction Read(int task, int row)
    {
        FittedTask fitted = Tasks[task];
        TaskDescription description = fitted.Description;
        ReadOnlySpan<float> values = _values[task].AsSpan(row * fitted.Outputs, fitted.Outputs);
        if (fitted.Classes is { } classes)
        {
            int likeliest = System.Numerics.Tensors.TensorPrimitives.IndexOfMax(values);
            return new(description.Name, description.Type, values[likeliest], classes[likeliest], values.ToArray(), null);
        }

        float value = description.Type == TaskType.Regression ? (float)fitted.Restore(values[0]) : values[0];
        return new(description.Name, description.Type, value, null, null, _conditional[task]?[row]);
    }

    /// <summary>Rows that were asked for together.</summary>
    private sealed class Request(FeatureRow[] rows)
    {
        private readonly Prediction[] _predictions = new Prediction[rows.Length];
        private int _left = rows.Length;

        public FeatureRow[] Rows { get; } = rows;

        public TaskCompletionSource<IReadOnlyList<Prediction>> Completion { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public void Set(int row, Prediction prediction)
        {
            _predictions[row] = prediction;
            if (--_left == 0)
                Completion.TrySetResult(_predictions);
        }
    }
}
