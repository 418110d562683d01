using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Streaming.Xsmoe;

namespace CudaMoE.Streaming;

/// <summary>The frozen states of a description, opened.</summary>
internal sealed class StateSources : IDisposable
{
    private readonly List<IItemStates> _sources = [];

    /// <summary>The states of each modality, by item number.</summary>
    public List<FrozenStates> States { get; } = [];

    /// <summary>Opens files and reads texts.</summary>
    /// <param name="description">The description.</param>
    /// <param name="items">Names of the items by number.</param>
    /// <exception cref="CudaMoEException">A file is missing or wrong, or has too few layers.</exception>
    public static StateSources Open(StreamDescription description, IReadOnlyList<string> items)
    {
        StateSources opened = new();
        try
        {
            for (int i = 0; i < description.Modalities.Count; i++)
            {
                ModalityDescription modality = description.Modalities[i];
                IItemStates source = OpenOne(description, modality);
                opened._sources.Add(source);
                int highest = description.Model.Layers[^1];
                if (highest >= source.Layers)
                    throw new DescriptionException($"modalities[{i}]", $"has states of {source.Layers} layers, 0 to {source.Layers - 1}; model.layers asks for {highest}");
                opened.States.Add(new(modality.Name, source, description.Model.Layers, items));
            }

            return opened;
        }
        catch
        {
            opened.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        foreach (IItemStates source in _sources)
            (source as IDisposable)?.Dispose();
    }

    private static IItemStates OpenOne(StreamDescription description, ModalityDescription modality) => modality.Source switch
    {
        StateSource.File => StateFile.Open(modality.File!),
        StateSource.Text => new HashedTextStates(Texts(description.Items!, modality.Columns), modality.Layers + 1, modality.Width, modality.Seed),
        _ => new SyntheticStates(
            modality.Layers + 1,
            modality.Width,
            modality.Factors,
            modality.Seed,
            modality.Columns.Count == 0 ? null : Texts(description.Items!, modality.Columns),
            modality.GroupShare),
    };

    /// <summary>The joined columns of each item; missing values and items whose columns are all missing have none.</summary>
    private static Dictionary<string, string> Texts(ItemTableDescription table, IReadOnlyList<string> columns)
    {
        using DelimitedReader reader = new(table.File, table.Format);
        int item = reader.IndexOf(table.ItemColumn, "items.item_column");
        int[] places = [.. columns.Select(column => reader.IndexOf(column, "modalities"))];
        Dictionary<string, string> texts = new(StringComparer.Ordinal);
        StringBuilder text = new();
        while (reader.Read())
        {
            text.Clear();
            foreach (int place in places)
            {
                if (!reader.IsMissing(reader.Field(place)))
                    text.Append(text.Length > 0 ? " " : "").Append(Encoding.UTF8.GetString(reader.Field(place)));
            }

            if (text.Length > 0)
                texts.TryAdd(Encoding.UTF8.GetString(reader.Field(item)), text.ToString());
        }

        return texts;
    }
}
