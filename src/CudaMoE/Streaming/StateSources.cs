using CudaMoE.Description;
using CudaMoE.Streaming.Xsmoe;
using CudaMoE.Tensors;

namespace CudaMoE.Streaming;

/// <summary>The frozen states of a description, opened.</summary>
internal sealed class StateSources : IDisposable
{
    private readonly List<IItemStates> _sources = [];

    /// <summary>The states of each modality, by item number.</summary>
    public List<FrozenStates> States { get; } = [];

    /// <summary>Opens files, reads texts, and runs encoders whose states are not kept yet.</summary>
    /// <param name="description">The description.</param>
    /// <param name="items">Names of the items by number; number 0 is padding.</param>
    /// <param name="device">Where encoders compute.</param>
    /// <param name="folder">Where their states are kept.</param>
    /// <param name="observer">Is told how far they are; null = nobody.</param>
    /// <param name="cancellation">Ends them.</param>
    /// <exception cref="CudaMoEException">A file is missing or wrong, or has too few layers.</exception>
    public static StateSources Open(
        StreamDescription description, IReadOnlyList<string> items, Device device, string folder, IStreamObserver? observer, CancellationToken cancellation)
    {
        StateSources opened = new();
        try
        {
            for (int i = 0; i < description.Modalities.Count; i++)
            {
                ModalityDescription modality = description.Modalities[i];
                IItemStates source = modality.Source == StateSource.Encoder
                    ? new StateCache(modality, $"modalities[{i}]", folder, device, (done, count) => observer?.OnEncoded(modality.Name, done, count), cancellation)
                        .Open(items.Skip(1).ToHashSet(StringComparer.Ordinal), description.Items)
                    : OpenOne(description, modality);
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

    private static Dictionary<string, string> Texts(ItemTableDescription table, IReadOnlyList<string> columns) =>
        new(StateEncoding.ReadTexts(table.File, table.Format, table.ItemColumn, columns), StringComparer.Ordinal);
}
