using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules that a stream description must keep beyond its types.</summary>
internal static class StreamRules
{
    public static void Check(StreamDescription description)
    {
        ArgumentNullException.ThrowIfNull(description);
        CheckValues(description, "");
        CheckName(description.Name);
        if (description.Data.Log.Count == 0)
            throw Error("data.log", $"is empty; it must name at least one file");
        CheckModalities(description);
        CheckModel(description);
    }

    private static void CheckModalities(StreamDescription description)
    {
        if (description.Modalities.Count == 0)
            throw Error("modalities", $"is empty; the model needs the frozen states of at least one");
        CheckUnique([.. description.Modalities.Select(modality => modality.Name)], "modalities", "name");
        for (int i = 0; i < description.Modalities.Count; i++)
        {
            ModalityDescription modality = description.Modalities[i];
            string path = $"modalities[{i}]";
            if (modality.Name.Length > 50 || !modality.Name.All(letter => char.IsAsciiLetterLower(letter) || char.IsAsciiDigit(letter) || letter is '-' or '_'))
                throw Error($"{path}.name", $"is \"{LocatedValue.Cut(modality.Name)}\"; it must be 1 to 50 lower-case letters, digits, '-' and '_'");
            if (modality.Name is "fusion" or "user")
                throw Error($"{path}.name", $"is \"{modality.Name}\", which other parameters of the model begin with");
            if (modality.Source == StateSource.File && modality.File is null)
                throw Error($"{path}.file", $"is missing; the source file needs it");
            if (modality.Source is not (StateSource.File or StateSource.Encoder) && modality.File is not null)
                throw Error($"{path}.file", $"has no effect; only the sources file and encoder have it; remove it");
            if (modality.Source == StateSource.Text && modality.Columns.Count == 0)
                throw Error($"{path}.columns", $"is empty; the source text needs the columns of the item table that hold the texts");
            if (modality.Source == StateSource.File && modality.Columns.Count > 0)
                throw Error($"{path}.columns", $"has no effect; the source file reads no columns; remove it");
            CheckEncoder(modality, path);
            if (modality.Columns.Count > 0 && description.Items is null)
                throw Error($"{path}.columns", $"needs the item table; give items.file");
            int highest = description.Model.Layers.DefaultIfEmpty(0).Max();
            if (modality.Source is StateSource.Text or StateSource.Synthetic && highest > modality.Layers)
                throw Error($"{path}.layers", $"is {modality.Layers}; model.layers goes up to {highest}, so it must be at least that");
        }
    }

    private static void CheckEncoder(ModalityDescription modality, string path)
    {
        if (modality.Source == StateSource.Encoder)
        {
            if (modality.Encoder is null)
                throw Error($"{path}.encoder", $"is missing; the source encoder needs the encoder's folder");
            if (modality.Columns.Count == 0 == modality.Pixels is null)
                throw Error($"{path}.columns", $"{(modality.Pixels is null ? "is empty" : "is given beside pixels")}; the source encoder needs either columns of the item table that hold texts, or pixels");
            if (modality.Pixels is not null && modality.MaxTokens is not null)
                throw Error($"{path}.max_tokens", $"has no effect on pictures; remove it");
            return;
        }

        (string Key, bool Given)[] keys =
        [
            ("encoder", modality.Encoder is not null), ("pixels", modality.Pixels is not null), ("pooling", modality.Pooling != TokenPooling.Cls), ("max_tokens", modality.MaxTokens is not null),
        ];
        foreach ((string key, bool given) in keys)
        {
            if (given)
                throw Error($"{path}.{key}", $"has no effect; only the source encoder has it; remove it");
        }
    }

    private static void CheckModel(StreamDescription description)
    {
        XsmoeDescription model = description.Model;
        if (model.Layers.Count == 0)
            throw Error("model.layers", $"is empty; a ladder needs at least one layer");
        for (int i = 1; i < model.Layers.Count; i++)
        {
            if (model.Layers[i] <= model.Layers[i - 1])
                throw Error($"model.layers[{i}]", $"is {model.Layers[i]}, and the one before is {model.Layers[i - 1]}; they must ascend");
        }

        if (model.Hidden % model.Heads != 0)
            throw Error("model.heads", $"is {model.Heads}; it must divide model.hidden, {model.Hidden}");
        if (model.Hidden / model.Heads > 256)
            throw Error("model.heads", $"is {model.Heads}; a head would have {model.Hidden / model.Heads} columns of model.hidden, and attention takes at most 256");
        // Scores are addressed by 31 bits, see InBatchLoss.
        long rows = (long)description.Training.BatchSize * model.History;
        long columns = (((long)description.Training.BatchSize * (model.History + 1)) + 15) / 16 * 16;
        if (rows * columns > int.MaxValue)
            throw Error("training.batch_size", $"is {description.Training.BatchSize}; with model.history {model.History} a batch has {rows} x {columns} scores, and at most {int.MaxValue} are addressed; make one of them smaller");
    }
}
