using CudaMoE.Description;

namespace CudaMoE.Tests.Description;

public sealed class DescriptionValidatorTests
{
    private static readonly ModelDescription Model = Samples.Model;
    private static readonly FeatureDescription Dense = new() { Name = "x", Type = FeatureType.Dense };
    private static readonly FeatureDescription Category = new() { Name = "c", Type = FeatureType.Categorical, Dimension = 4 };
    private static readonly TaskDescription Binary = new() { Name = "t", Type = TaskType.Binary };
    private static readonly DataDescription Data = new() { Train = ["a.csv"] };
    private static readonly EarlyStoppingDescription Stopping = new();

    public static TheoryData<string, ModelDescription, string> Broken
    {
        get
        {
            TheoryData<string, ModelDescription, string> cases = [];
            AddNames(cases);
            AddFeatures(cases);
            AddTasks(cases);
            AddArchitectures(cases);
            AddTraining(cases);
            AddData(cases);
            return cases;
        }
    }

    public static TheoryData<string, ModelDescription> Kept => new()
    {
        { "sample", Model },
        { "one task", Model with { Tasks = [Binary] } },
        { "hash", With(Category with { Encoding = CategoryEncoding.Hash, Buckets = 2 }) },
        { "vector", With(new FeatureDescription { Name = "v", Type = FeatureType.Vector, Size = 2, ValueSeparator = "\t" }) },
        { "shared table", With(Category, Category with { Name = "c2", Table = "c" }) },
        { "dense features of one name pattern", With(Dense, Dense with { Name = "x2", Column = "x" }) },
        { "no hidden layers", WithArchitecture(new() { Type = ModelType.SharedBottom }) },
        { "sigmoid dense renormalised", WithGate(new() { Score = ScoreMode.Sigmoid, Renormalize = true }) },
        { "noisy", WithGate(new() { TopK = 4, Score = ScoreMode.Noisy }) },
        { "floor", WithBalancer(new() { Type = BalancerType.Mgda, Floor = 0.49, Normalize = GradientNormalization.Norm }) },
        { "single task with static weights", WithArchitecture(new() { Type = ModelType.SingleTask, Bottom = [4] }) with { Training = new() { Balancer = new() { Type = BalancerType.Static } } } },
        { "single task over shared tables", WithArchitecture(new() { Type = ModelType.SingleTask, Bottom = [4] }) with { Training = new() { Balancer = new() { Type = BalancerType.Mgda, Place = RepresentationPlace.SharedParameters } } } },
        { "looks at gradients", WithBalancer(new() { ObserveEvery = 10, Place = RepresentationPlace.SharedParameters }) },
        { "stopping on one task", WithStopping(Stopping with { Metric = "spend/rmse" }) },
        { "stopping with weights", WithStopping(Stopping with { Metric = "auc", TaskWeights = [1, 0] }) },
        { "stopping on log loss with validation files", WithStopping(Stopping with { Metric = "log_loss" }) with { Data = Data with { Validation = ["v.csv"] } } },
        { "columns", Model with { Data = Data with { Format = new() { Header = false, Columns = ["spend", "income", "job", "age"] } } } },
    };

    [Theory]
    [MemberData(nameof(Kept))]
    public void Validate_Valid_Passes(string name, ModelDescription model)
    {
        Assert.NotEmpty(name);
        DescriptionValidator.Validate(model);
        Assert.Equal(DescriptionJson.Write(model), DescriptionJson.Write(DescriptionJson.Parse(DescriptionJson.Write(model))));
    }

    [Theory]
    [MemberData(nameof(Broken))]
    public void Validate_BrokenRule_IsNamed(string path, ModelDescription model, string problem)
    {
        DescriptionException error = Assert.Throws<DescriptionException>(() => DescriptionValidator.Validate(model));
        Assert.Equal(path, error.KeyPath);
        Assert.StartsWith(path + " ", error.Message, StringComparison.Ordinal);
        Assert.Contains(problem, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Build_WithoutArchitecture_Throws()
    {
        ModelDescriptionBuilder builder = new ModelDescriptionBuilder("m").AddDense("age").AddBinaryTask("t", "t", "yes");
        Assert.Contains("WithArchitecture", Assert.Throws<DescriptionException>(builder.Build).Message, StringComparison.Ordinal);
        ModelDescription model = builder.WithArchitecture(new() { Type = ModelType.SharedBottom, Bottom = [8] }).AddCategorical("job", 4).Build();
        Assert.Equal(["yes"], model.Tasks[0].Positive);
        Assert.Throws<DescriptionException>(builder.AddDense("age").Build);
    }

    [Theory]
    [InlineData("expert", "experts")]
    [InlineData("lerning_rate", "learning_rate")]
    [InlineData("epohcs", "epochs")]
    [InlineData("batchsize", "batch_size")]
    [InlineData("opt", "optimizer")]
    [InlineData("zzzzzz", null)]
    [InlineData("", null)]
    [InlineData("x", null)]
    public void NearestName_Find_SuggestsOnlyWhatIsNear(string name, string? expected) =>
        Assert.Equal(expected, NearestName.Find(name, ["experts", "learning_rate", "epochs", "batch_size", "optimizer", "seed"]));

    [Theory]
    [InlineData("", "abc", 3)]
    [InlineData("kitten", "sitting", 3)]
    [InlineData("ab", "ba", 1)]
    [InlineData("Abc", "aBC", 0)]
    public void NearestName_Distance_CountsEdits(string first, string second, int expected)
    {
        Assert.Equal(expected, NearestName.Distance(first, second));
        Assert.Equal(expected, NearestName.Distance(second, first));
    }

    private static ModelDescription With(params FeatureDescription[] features) => Model with { Features = features };

    private static ModelDescription WithArchitecture(ArchitectureDescription architecture) => Model with { Architecture = architecture };

    private static ModelDescription WithGate(GateDescription gate) => WithArchitecture(Model.Architecture with { Gate = gate });

    private static ModelDescription WithBalancer(BalancerDescription balancer) => Model with { Training = new() { Balancer = balancer } };

    private static ModelDescription WithStopping(EarlyStoppingDescription stopping) => Model with { Training = new() { EarlyStopping = stopping } };

    private static void AddNames(TheoryData<string, ModelDescription, string> cases)
    {
        foreach (string name in new[] { "a b", ".hidden", "ü", "a/b", new string('a', 101) })
            cases.Add("name", Model with { Name = name }, "1 to 100 letters");
        cases.Add("name", Model with { Name = "" }, "is empty");
        cases.Add("name", Model with { Name = null! }, "is null");
        cases.Add("features", Model with { Features = null! }, "is null");
        cases.Add("features[1]", With(Dense, null!), "is null");
        cases.Add("tasks[0].column", Model with { Tasks = [Binary with { Column = "a\0b" }] }, "control character");
        cases.Add("architecture.type", WithArchitecture(new() { Type = (ModelType)99 }), "is 99; it must be one of single_task, shared_bottom, mmoe");
    }

    private static void AddFeatures(TheoryData<string, ModelDescription, string> cases)
    {
        FeatureDescription multiHot = Category with { Type = FeatureType.MultiHot };
        FeatureDescription vector = new() { Name = "v", Type = FeatureType.Vector, Size = 3 };
        cases.Add("features", With(), "is empty");
        cases.Add("features[1].name", With(Dense, Dense), "is \"x\", which features[0].name is already");
        cases.Add("features[0].dimension", With(Category with { Dimension = null }), "is missing");
        cases.Add("features[0].dimension", With(Category with { Dimension = 0 }), "is 0; it must be at least 1");
        cases.Add("features[0].dimension", With(Dense with { Dimension = 4 }), "has no effect");
        cases.Add("features[0].dimension", With(Dense with { Transform = DenseTransform.Quantile, Buckets = 4 }), "is missing");
        cases.Add("features[0].buckets", With(Dense with { Transform = DenseTransform.Quantile, Dimension = 4 }), "is missing");
        cases.Add("features[0].buckets", With(Category with { Encoding = CategoryEncoding.Hash }), "is missing");
        cases.Add("features[0].buckets", With(Category with { Encoding = CategoryEncoding.Identity }), "is missing");
        cases.Add("features[0].buckets", With(Category with { Encoding = CategoryEncoding.Hash, Buckets = 1 }), "is 1; it must be at least 2");
        cases.Add("features[0].buckets", With(Dense with { Buckets = 4 }), "has no effect");
        cases.Add("features[0].encoding", With(Dense with { Encoding = CategoryEncoding.Hash }), "has no effect");
        cases.Add("features[0].table", With(Dense with { Table = "t" }), "has no effect");
        TableStorage host = new() { Place = StoragePlace.Host };
        cases.Add("features[0].storage", With(Dense with { Storage = host }), "has no effect");
        cases.Add("features[0].storage.cache_rows", With(Category with { Storage = host with { CacheRows = 7 } }), "is 7; it must be at least 8");
        cases.Add("features[0].storage.cache_rows", With(Category with { Storage = new() { CacheRows = 64 } }), "is 64, but the table is in the device's memory; set place to host");
        cases.Add("features[0].storage.place", With(Category with { Storage = new() { Place = (StoragePlace)7 } }), "is 7; it must be one of device, host");
        cases.Add("features[1].storage", With(Category, Category with { Name = "c2", Table = "c", Storage = host }), "which shares table \"c\", has none; shared tables need the same");
        cases.Add("features[0].min_count", With(Category with { Encoding = CategoryEncoding.Hash, Buckets = 9, MinCount = 2 }), "has no effect");
        cases.Add("features[0].min_count", With(Category with { MinCount = 0 }), "is 0; it must be at least 1");
        cases.Add("features[0].pooling", With(Category with { Pooling = PoolingKind.Sum }), "has no effect");
        cases.Add("features[0].max_length", With(Category with { MaxLength = 2 }), "has no effect");
        cases.Add("features[0].max_length", With(multiHot with { MaxLength = 0 }), "is 0; it must be at least 1");
        cases.Add("features[0].max_length", With(Category with { Type = FeatureType.Sequence }), "is missing; a sequence feature needs the number of its positions");
        cases.Add("features[0].max_length", With(Category with { Type = FeatureType.Sequence, MaxLength = 5000 }), "is 5000; a sequence has at most 4096 positions");
        cases.Add("features[0].keep", With(multiHot with { Keep = SequenceEnd.First }), "has no effect here; only a sequence feature has it");
        cases.Add("features[0].pooling", With(Category with { Type = FeatureType.Sequence, MaxLength = 5, Pooling = PoolingKind.Sum }), "has no effect");
        cases.Add("features[0].transform", With(Category with { Transform = DenseTransform.Log }), "has no effect");
        cases.Add("features[0].size", With(Category with { Size = 2 }), "has no effect");
        cases.Add("features[0].size", With(vector with { Size = null }), "is missing");
        cases.Add("features[0].value_separator", With(Category with { ValueSeparator = ";" }), "has no effect");
        cases.Add("features[0].value_separator", With(multiHot with { ValueSeparator = "||" }), "must be one character");
        cases.Add("features[1].dimension", With(Category, Category with { Name = "c2", Table = "c", Dimension = 8 }), "is 8, but features[0], which shares table \"c\", has 4");
        cases.Add("features[1].encoding", With(Category, Category with { Name = "c2", Table = "c", Encoding = CategoryEncoding.Hash, Buckets = 9 }), "is hash, but");
        cases.Add("features[1].buckets", With(Category with { Buckets = 9 }, Category with { Name = "c2", Table = "c" }), "is none, but");
        cases.Add("features[1].min_count", With(Category, Category with { Name = "c2", Table = "c", MinCount = 3 }), "is 3, but");
        cases.Add(
            "features[1].table",
            With(Dense with { Transform = DenseTransform.Quantile, Buckets = 9, Dimension = 4 }, Category with { Table = "x", Buckets = 9 }),
            "a quantile feature has for itself");
        cases.Add("features[0].name", Model with { Features = [Dense with { Name = "income" }] }, "the label of task \"income\"");
        cases.Add("features[0].column", Model with { Features = [Dense with { Column = "spend" }] }, "must not hold an answer");
    }

    private static void AddTasks(TheoryData<string, ModelDescription, string> cases)
    {
        Add("tasks", "has 0 entries");
        cases.Add("tasks", Model with { Tasks = [.. Enumerable.Range(0, 65).Select(i => Binary with { Name = $"t{i}" })] }, "has 65 entries; it must have 1 to 64");
        Add("tasks[1].name", "is \"t\", which tasks[0].name is already", Binary, Binary);
        Add("tasks[0].name", "must not hold '/'", Binary with { Name = "a/b" });
        Add("tasks[0].positive", "is empty", Binary with { Positive = [] });
        Add("tasks[0].positive[1]", "is \"a\", which tasks[0].positive[0] is already", Binary with { Positive = ["a", "a"] });
        Add("tasks[0].positive", "has no effect", Binary with { Type = TaskType.Regression, Positive = ["a"] });
        Add("tasks[0].classes", "has no effect", Binary with { Classes = ["a", "b"] });
        Add("tasks[0].classes", "has 1 entries; it must have at least 2", Binary with { Type = TaskType.Multiclass, Classes = ["a"] });
        Add("tasks[0].classes[2]", "is already", Binary with { Type = TaskType.Multiclass, Classes = ["a", "b", "a"] });
        Add("tasks[0].transform", "has no effect", Binary with { Transform = LabelTransform.Log });
        Add("tasks[0].mask.in", "is empty", Binary with { Mask = new() { Column = "c", In = [] } });
        Add("tasks[0].mask.in[1]", "is already", Binary with { Mask = new() { Column = "c", In = ["1", "1"] } });
        TaskDescription other = Binary with { Name = "u" };
        Add("tasks[0].given", "is \"v\", which is no task; name one of t, u", Binary with { Given = "v" }, other);
        Add("tasks[1].given", "must both be binary", Binary with { Type = TaskType.Regression }, other with { Given = "t" });
        Add("tasks[0].given", "must both be binary", Binary with { Type = TaskType.Regression, Given = "u" }, other);
        Add("tasks[0].given", "leads in a circle", Binary with { Given = "t" });
        Add("tasks[0].given", "leads in a circle", Binary with { Given = "u" }, other with { Given = "t" });
        ModelDescription balanced = Model with { Tasks = [Binary with { Given = "u" }, other], Training = new() { Balancer = new() { Type = BalancerType.Mgda } } };
        cases.Add("tasks[0].given", balanced, "the balancer must be equal or static, not mgda");
        Add("tasks[0].weight", "is -1; it must be at least 0", Binary with { Weight = -1 });
        Add("tasks[0].weight", "is NaN; it must be at least 0", Binary with { Weight = double.NaN });
        Add("tasks[0].weight", "it must be at least 0", Binary with { Weight = double.PositiveInfinity });
        Add("tasks", "all have weight 0", Binary with { Weight = 0 });

        void Add(string path, string problem, params TaskDescription[] tasks) => cases.Add(path, Model with { Tasks = tasks }, problem);
    }

    private static void AddArchitectures(TheoryData<string, ModelDescription, string> cases)
    {
        ArchitectureDescription shared = new() { Type = ModelType.SharedBottom };
        Add("architecture.experts", "has no effect", shared with { Experts = new() { Count = 2, Layers = [4] } });
        Add("architecture.gate", "has no effect", shared with { Gate = new() { TopK = 1 } });
        Add("architecture.activation_slope", "has no effect", shared with { ActivationSlope = 0.2f });
        Add("architecture.activation_slope", "is NaN", shared with { Activation = ActivationKind.LeakyRelu, ActivationSlope = float.NaN });
        Add("architecture.projection", "is 0; it must be at least 1 and at most 65536", shared with { Projection = 0 });
        Add("architecture.tower[1]", "is -1", shared with { Tower = [3, -1] });
        Add("architecture.experts", "is missing", new() { Type = ModelType.Mmoe });
        Add("architecture.experts.layers", "is empty", Model.Architecture with { Experts = new() { Count = 2, Layers = [] } });
        Add("architecture.experts.count", "is 0", Model.Architecture with { Experts = new() { Count = 0, Layers = [4] } });
        Add("architecture.bottom", "has no effect", Model.Architecture with { Bottom = [4] });
        Gate("top_k", "is 5; it must be at most the number of experts, 4", new() { TopK = 5 });
        Gate("top_k", "is 0; it must be at least 1", new() { TopK = 0 });
        Gate("score", "needs top_k", new() { Score = ScoreMode.TopkSoftmax });
        Gate("score", "needs top_k", new() { Score = ScoreMode.Noisy });
        Gate("capacity_factor", "needs top_k", new() { CapacityFactor = 1 });
        Gate("capacity_factor", "is 0; it must be above 0", new() { TopK = 1, CapacityFactor = 0 });
        Gate("balance_loss", "needs top_k", new() { BalanceLoss = 0.1f });
        Gate("balance_loss", "is -1", new() { TopK = 1, BalanceLoss = -1 });
        Gate("z_loss", "is NaN", new() { ZLoss = float.NaN });
        Gate("renormalize", "has no effect", new() { Renormalize = true });
        Gate("renormalize", "has no effect", new() { TopK = 2, Score = ScoreMode.TopkSoftmax, Renormalize = true });
        Gate("order", "has no effect", new() { TopK = 2, Order = RoutingOrder.Priority });

        AddFusion(cases);

        void Add(string path, string problem, ArchitectureDescription architecture) => cases.Add(path, WithArchitecture(architecture), problem);

        void Gate(string key, string problem, GateDescription gate) => cases.Add("architecture.gate." + key, WithGate(gate), problem);
    }

    private static void AddFusion(TheoryData<string, ModelDescription, string> cases)
    {
        IReadOnlyList<IReadOnlyList<int>> levels = [[8], [4]];
        Experts(ModelType.Mmoe, "count", "is missing; type mmoe needs it", new() { Layers = [4] });
        Experts(ModelType.Mmoe, "levels", "only types ml_mmoe, ple, adatt and cross_stitch have it", new() { Count = 2, Layers = [4], Levels = levels });
        Experts(ModelType.Mmoe, "per_task", "only types cgc, ple, adatt, mgoe and stem have it", new() { Count = 2, Layers = [4], PerTask = 1 });
        Experts(ModelType.Mmoe, "native", "only type adatt has it", new() { Count = 2, Layers = [4], Native = NativeResidual.None });
        Experts(ModelType.MlMmoe, "count", "is missing; type ml_mmoe needs it", new() { Levels = levels });
        Experts(ModelType.MlMmoe, "shared", "has no effect", new() { Count = 2, Levels = levels, Shared = 1 });
        Experts(ModelType.Cgc, "levels", "has no effect", new() { Levels = levels, Shared = 1 });
        Experts(ModelType.Cgc, "layers", "is empty", new() { Shared = 1 });
        Experts(ModelType.Cgc, "shared", "is missing; type cgc needs at least 1", new() { Layers = [4] });
        Experts(ModelType.Ple, "shared", "is 0; type ple needs at least 1", new() { Levels = levels, Shared = 0 });
        Experts(ModelType.Ple, "per_task", "is 0; it must be at least 1", new() { Levels = levels, Shared = 1, PerTask = 0 });
        Experts(ModelType.Adatt, "levels", "is empty; type adatt needs at least one level", new());
        Experts(ModelType.Adatt, "levels[1]", "is empty; an expert needs at least one layer", new() { Levels = [[4], []] });
        Experts(ModelType.Adatt, "levels[0][1]", "is 0; it must be at least 1 and at most 65536", new() { Levels = [[4, 0]] });
        Experts(ModelType.Adatt, "levels[0]", "is null", new() { Levels = [null!] });
        Experts(ModelType.Adatt, "count", "only types mmoe, ml_mmoe and grec have it", new() { Levels = levels, Count = 2 });
        Experts(ModelType.Adatt, "per_task", "gives 6001 experts a level: 2 tasks of 3000, and 1 shared; it must be at most 4096", new() { Levels = levels, PerTask = 3000, Shared = 1 });
        Experts(ModelType.CrossStitch, "per_task", "has no effect", new() { Levels = levels, PerTask = 1 });
        ArchitectureDescription adatt = new() { Type = ModelType.Adatt, Experts = new() { Levels = levels } };
        Add("experts", "is missing; type adatt needs it", adatt with { Experts = null });
        Add("bottom", "type adatt has experts instead", adatt with { Bottom = [3] });
        Add("stitch_own_weight", "only type cross_stitch has it", adatt with { StitchOwnWeight = null });
        Add("stitch_own_weight", "is 1.5", adatt with { Type = ModelType.CrossStitch, StitchOwnWeight = 1.5 });
        Add("gate", "mixes by trained matrices", adatt with { Type = ModelType.CrossStitch, Gate = new() { Bias = false } });
        Add("gate.sharing", "only types mmoe and ml_mmoe have a gate that tasks can share", adatt with { Gate = new() { Sharing = GateSharing.Shared } });
        Add("gate.top_k", "only types mmoe and grec have it, the gates of type adatt are dense softmax gates", adatt with { Gate = new() { TopK = 1 } });
        Add("gate.z_loss", "only types mmoe and grec have it", adatt with { Gate = new() { ZLoss = 0.1f } });
        Add("gate.input", "only types ple and adatt have it", adatt with { Type = ModelType.MlMmoe, Experts = new() { Levels = levels, Count = 2 }, Gate = new() { Input = GateInput.Unit } });
        Add("gate.input", "only types ple and adatt have it", Model.Architecture with { Gate = new() { Input = GateInput.Unit } });

        ArchitectureDescription grec = new() { Type = ModelType.Grec, Experts = new() { Count = 2, Layers = [4] }, Gate = new() { TopK = 1 }, Grec = new() };
        Add("grec", "is missing; type grec needs it", grec with { Grec = null });
        Add("grec", "has no effect here; only type grec has it", Model.Architecture with { Grec = new() });
        Add("projection", "has no effect here; a grec model has a head for each kind of feature", grec with { Projection = 4 });
        Add("layer_norm", "has no effect here; a grec model normalises its tokens", grec with { LayerNorm = true });
        Add("gate.top_k", "is missing; the mixture of a grec model is sparse", grec with { Gate = new() });
        Add("gate.top_k", "is 3; it must be at most the number of experts, 2", grec with { Gate = new() { TopK = 3 } });
        Add("gate.sharing", "a grec model has one router", grec with { Gate = new() { TopK = 1, Sharing = GateSharing.Shared } });
        Add("experts.layers", "is empty", grec with { Experts = new() { Count = 2 } });
        Add("grec.width", "is 1; it must be at least 2", grec with { Grec = new() { Width = 1 } });
        Add("grec.token_capacity", "is 0; it must be at least 1", grec with { Grec = new() { TokenCapacity = 0 } });
        Add("grec.heads", "is 5, which does not divide width 64; choose another number or give head_width", grec with { Grec = new() { Heads = 5 } });
        Add("grec.heads", "which makes heads of width 512; a head has at most 256 columns", grec with { Grec = new() { Width = 512 } });
        Add("grec.blocks", "no feature is a sequence", grec with { Grec = new() { Blocks = 3 } });
        Add("grec.text[0]", "is \"nothing\", which is no feature", grec with { Grec = new() { Text = ["nothing"] } });
        Add("grec.text[0]", $"is \"{Model.Features[0].Name}\"; it must be a multi_hot or vector feature", grec with { Grec = new() { Text = [Model.Features[0].Name] } });
        FeatureDescription history = new() { Name = "history", Type = FeatureType.Sequence, Dimension = 4, MaxLength = 5 };
        ModelDescription read = WithArchitecture(grec) with { Features = [Category, history, history with { Name = "pages" }] };
        cases.Add("architecture.grec.current[1]", read with { Architecture = grec with { Grec = new() { Current = ["c", "c"] } } }, "is named already; a feature belongs to one token");
        cases.Add("architecture.grec.current[0]", read with { Architecture = grec with { Grec = new() { Current = ["history"] } } }, "it must be a categorical or multi_hot feature");
        cases.Add("features[2].max_length", read with { Features = [Category, history, history with { Name = "pages", MaxLength = 6 }] }, "is 6, but sequence \"history\" has 5");
        cases.Add("features[2].dimension", read with { Features = [Category, history, history with { Name = "pages", Dimension = 8 }] }, "is 8, but sequence \"history\" has 4");

        Grec("overflow", "has no effect here; no token_capacity limits the experts", new() { Overflow = CapacityOverflow.Pass });
        cases.Add("architecture.grec.overflow", read with { Architecture = grec with { Gate = new() { TopK = 2 }, Grec = new() { TokenCapacity = 2, Overflow = CapacityOverflow.Pass } } }, "needs gate.top_k 1, not 2");
        cases.Add("architecture.grec.overflow", read with { Architecture = grec with { Gate = new() { TopK = 1, CapacityFactor = 2 }, Grec = new() { TokenCapacity = 2, Overflow = CapacityOverflow.Pass } } }, "remove gate.capacity_factor or use drop");
        Grec("current_layer", "has no effect here; current names no feature", new() { CurrentLayer = false });
        Grec("current_layer", "but the features of current are 4 columns wide and a token 6", new() { Width = 6, Current = ["c"], CurrentLayer = false });
        Grec("sequence[0]", "has \"c\", which is no sequence feature", new() { Sequence = [["c"]] });
        Grec("sequence[1]", "has \"history\", which is named already", new() { Sequence = [["history"], ["history"]] });
        Grec("sequence[1]", "is empty; a factor has at least one sequence feature", new() { Sequence = [["history"], []] });
        Grec("sequence[1]", "is 8 columns wide, but the first factor 4", new() { Sequence = [["history"], ["pages", "more"]] }, history with { Name = "more" });
        Grec("sequence", "leaves out sequence feature \"pages\"", new() { Sequence = [["history"]] });
        Add("grec.padding", "has no effect here; no feature is a sequence", grec with { Grec = new() { Padding = SequencePadding.FirstRow } });

        void Grec(string key, string problem, GrecDescription changed, params FeatureDescription[] more) =>
            cases.Add("architecture.grec." + key, read with { Features = [.. read.Features, .. more], Architecture = grec with { Grec = changed } }, problem);

        void Experts(ModelType type, string key, string problem, ExpertsDescription experts) =>
            cases.Add("architecture.experts." + key, WithArchitecture(new() { Type = type, Experts = experts }), problem);

        void Add(string key, string problem, ArchitectureDescription architecture) => cases.Add("architecture." + key, WithArchitecture(architecture), problem);
    }

    private static void AddTraining(TheoryData<string, ModelDescription, string> cases)
    {
        Add("batch_size", "is 0", new() { BatchSize = 0 });
        Add("epochs", "is 0", new() { Epochs = 0 });
        Add("clip_norm", "is 0; it must be above 0", new() { ClipNorm = 0 });
        Add("checkpoint_steps", "is 0", new() { CheckpointSteps = 0 });
        Add("optimizer.type", "is rowwise_adam; dense parameters take sgd, adagrad, adamw", new() { Optimizer = new() { Type = OptimizerType.RowwiseAdam } });
        Add("embedding_optimizer.type", "is adamw; embedding tables take sgd, adagrad, rowwise_adagrad, rowwise_adam", new() { EmbeddingOptimizer = new() });
        Add("optimizer.momentum", "has no effect", new() { Optimizer = new() { Momentum = 0.5f } });
        Add("embedding_optimizer.momentum", "has no effect", new() { EmbeddingOptimizer = new() { Type = OptimizerType.Sgd, Momentum = 0.5f } });
        Add("optimizer.momentum", "is 1; it must be at least 0 and below 1", new() { Optimizer = new() { Type = OptimizerType.Sgd, Momentum = 1 } });
        Add("optimizer.learning_rate", "is 0; it must be above 0", new() { Optimizer = new() { LearningRate = 0 } });
        Add("optimizer.learning_rate", "is Infinity", new() { Optimizer = new() { LearningRate = float.PositiveInfinity } });
        Add("optimizer.epsilon", "is 0; it must be above 0", new() { Optimizer = new() { Epsilon = 0 } });
        Add("schedule.final_factor", "is 2", new() { Schedule = new() { FinalFactor = 2 } });
        Add("schedule.decay_factor", "is 0; it must be above 0 and at most 1", new() { Schedule = new() { DecayFactor = 0 } });
        Add("schedule.warmup_steps", "is -1", new() { Schedule = new() { WarmupSteps = -1 } });
        Add("balancer.gamma", "is 0; it must be above 0 and at most 1", new() { Balancer = new() { Gamma = 0 } });
        Add("balancer.beta", "is NaN", new() { Balancer = new() { Beta = double.NaN } });
        Add("balancer.rho", "is -1", new() { Balancer = new() { Rho = -1 } });
        Add("balancer.every", "is 0", new() { Balancer = new() { Every = 0 } });
        Add("balancer.floor", "is 0.5; it must be below 1 / tasks = 0.5", new() { Balancer = new() { Floor = 0.5 } });
        Add("balancer.normalize", "has no effect with type equal; only mgda, moco have it", new() { Balancer = new() { Normalize = GradientNormalization.Norm } });
        Add("balancer.alpha", "only grad_norm, cagrad, fair_grad, meta_balance, grad_drop have it", new() { Balancer = new() { Type = BalancerType.Mgda, Alpha = 1 } });
        Add("balancer.alpha", "is 0; with fair_grad it must be above 0", new() { Balancer = new() { Type = BalancerType.FairGrad, Alpha = 0 } });
        Add("balancer.alpha", "is 2; with grad_drop it must be at most 1", new() { Balancer = new() { Type = BalancerType.GradDrop, Alpha = 2 } });
        Add("balancer.target", "is 2; there are 2 tasks", new() { Balancer = new() { Type = BalancerType.MetaBalance, Target = 2 } });
        Add("balancer.minimum", "has 1 entries; it must have one a task, 2", new() { Balancer = new() { Type = BalancerType.PeLtr, Minimum = [0.1] } });
        Add("balancer.minimum", "has the sum 1", new() { Balancer = new() { Type = BalancerType.PeLtr, Minimum = [0.5, 0.5] } });
        Add("balancer.gram_scale", "is cosine; with nash_mtl it must be one of mean, none", new() { Balancer = new() { Type = BalancerType.NashMtl, GramScale = GramScale.Cosine } });
        Add("balancer.gram_scale", "is mean; with multi_balance", new() { Balancer = new() { Type = BalancerType.MultiBalance, GramScale = GramScale.Mean } });
        Add("balancer.normalize", "with moco it must be one of none, loss_norm", new() { Balancer = new() { Type = BalancerType.Moco, Normalize = GradientNormalization.Loss } });
        Add("balancer.floor", "may be negative", new() { Balancer = new() { Type = BalancerType.ImtlG, Floor = 0.1 } });
        Add("balancer.floor", "has no effect with type equal", new() { Balancer = new() { Floor = 0.1 } });
        Add("balancer.every", "has no effect with type dwa", new() { Balancer = new() { Type = BalancerType.Dwa, Every = 2 } });
        Add("balancer.every", "has no effect with type grad_drop", new() { Balancer = new() { Type = BalancerType.GradDrop, Every = 2 } });
        Add("balancer.place", "looks at no gradients", new() { Balancer = new() { Type = BalancerType.Uw, Place = RepresentationPlace.TrunkInput } });
        Add("balancer.heads", "would turn a tower's training round", new() { Balancer = new() { Type = BalancerType.AlignedMtl, Heads = HeadGradient.Scaled } });
        Add("balancer.heads", "has no effect with type static", new() { Balancer = new() { Type = BalancerType.Static, Heads = HeadGradient.Scaled } });
        cases.Add(
            "training.balancer.type",
            WithArchitecture(new() { Type = ModelType.SingleTask, Bottom = [4] }) with { Training = new() { Balancer = new() { Type = BalancerType.MultiBalance } } },
            "use equal or static");
        Add("balancer.observe_every", "which looks at gradients itself", new() { Balancer = new() { Type = BalancerType.Mgda, ObserveEvery = 10 } });
        Add("balancer.observe_every", "is -1", new() { Balancer = new() { ObserveEvery = -1 } });
        Add("balancer.place", "which parameters do not have", new() { Balancer = new() { Type = BalancerType.GradDrop, Place = RepresentationPlace.SharedParameters } });
        Add("balancer.place", "looks at no gradients", new() { Balancer = new() { Type = BalancerType.Dwa, Place = RepresentationPlace.SharedParameters } });
        BalancerDescription onParameters = new() { Type = BalancerType.Mgda, Place = RepresentationPlace.SharedParameters };
        cases.Add(
            "training.balancer.place",
            With(Dense) with { Architecture = new() { Type = ModelType.SingleTask, Bottom = [4] }, Training = new() { Balancer = onParameters } },
            "shares no parameter");
        BalancerDescription onTrunk = new() { Type = BalancerType.Mgda, Place = RepresentationPlace.TrunkInput };
        cases.Add(
            "training.balancer.place",
            WithArchitecture(new() { Type = ModelType.SharedBottom, Bottom = [4] }) with { Training = new() { Balancer = onTrunk } },
            "use tower_input");
        cases.Add("training.balancer.place", WithGate(new() { Sharing = GateSharing.Shared }) with { Training = new() { Balancer = onTrunk } }, "use tower_input");
        Stop("metric", "there is no task \"incom\"; did you mean \"income\"?", Stopping with { Metric = "incom/auc" });
        Stop("metric", "it must be one of auc, gauc", Stopping with { Metric = "calibration" });
        Stop("metric", "did you mean \"log_loss\"?", Stopping with { Metric = "logloss" });
        Stop("metric", "which no such task has; auc is for binary tasks", Stopping with { Metric = "spend/auc" });
        Stop("patience", "is 0", Stopping with { Patience = 0 });
        Stop("min_delta", "is -1", Stopping with { MinDelta = -1 });
        Stop("task_weights", "has 1 entries; it must have one a task, 2", Stopping with { TaskWeights = [1] });
        Stop("task_weights[0]", "is -1", Stopping with { TaskWeights = [-1, 1] });
        Stop("task_weights", "no task that has auc", Stopping with { TaskWeights = [0, 1] });
        Stop("task_weights", "is of one task", Stopping with { Metric = "income/auc", TaskWeights = [1, 1] });
        cases.Add("training.early_stopping", WithStopping(Stopping) with { Data = Data }, "needs validation rows");
        cases.Add(
            "training.early_stopping.metric", WithStopping(Stopping with { Metric = "gauc" }) with { Data = Data with { Validation = ["v"] } }, "needs data.group_column");

        void Add(string key, string problem, TrainingDescription training) => cases.Add("training." + key, Model with { Training = training }, problem);

        void Stop(string key, string problem, EarlyStoppingDescription stopping) => cases.Add("training.early_stopping." + key, WithStopping(stopping), problem);
    }

    private static void AddData(TheoryData<string, ModelDescription, string> cases)
    {
        Add("train", "is empty", Data with { Train = [] });
        Add("train[0]", "is empty", Data with { Train = [""] });
        Add("train[1]", "which data.train[0] is already", Data with { Train = ["a", "a"] });
        Add("test[0]", "is \"a.csv\", which data.train[0] is already", Data with { Test = ["a.csv"] });
        Add("validation_split", "given together with data.validation", Data with { Validation = ["v"], ValidationSplit = new() });
        Add("validation_split.from", "data.test is empty", Data with { ValidationSplit = new() { From = SplitSource.Test } });
        Add("validation_split.fraction", "is 1; it must be above 0 and below 1", Data with { ValidationSplit = new() { Fraction = 1 } });
        Format("separator", "must be one character", new() { Separator = ",," });
        Format("separator", "control character", new() { Separator = "\n" });
        Format("quote", "other than the separator", new() { Quote = "," });
        Format("columns", "header is true", new() { Columns = ["a"] });
        Format("columns", "is missing", new() { Header = false });
        Format("columns", "is empty", new() { Header = false, Columns = [] });
        Format("columns[1]", "is already", new() { Header = false, Columns = ["a", "a"] });
        Format("missing[1]", "is already", new() { Missing = ["?", "?"] });
        DataDescription named = Data with { Format = new() { Header = false, Columns = ["age", "job", "income", "spend"] } };
        cases.Add("features[0].column", Model with { Data = named, Features = [Dense with { Column = "ages" }] }, "did you mean \"age\"?");
        cases.Add("tasks[0].name", Model with { Data = named, Tasks = [Binary with { Name = "incme" }] }, "did you mean \"income\"?");
        cases.Add("tasks[0].weight_column", Model with { Data = named, Tasks = [Binary with { Name = "income", WeightColumn = "w" }] }, "which is not in data.format.columns");
        cases.Add("tasks[0].mask.column", Model with { Data = named, Tasks = [Binary with { Name = "income", Mask = new() { Column = "m", In = ["1"] } }] }, "which is not in");
        Add("group_column", "which is not in", named with { GroupColumn = "user" });
        FeatureDescription vector = new() { Name = "v", Type = FeatureType.Vector, Size = 2, ValueSeparator = "," };
        cases.Add("features[0].value_separator", With(vector) with { Data = Data with { Format = new() { Quote = null } } }, "choose another character");
        cases.Add("features[0].value_separator", With(vector with { ValueSeparator = "\"" }) with { Data = Data }, "choose another character");

        void Add(string key, string problem, DataDescription data) => cases.Add("data." + key, Model with { Data = data }, problem);

        void Format(string key, string problem, FileFormat format) => cases.Add("data.format." + key, Model with { Data = Data with { Format = format } }, problem);
    }
}
