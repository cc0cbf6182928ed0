//! `forge grid`: pictures that differ in one key, two or three, each in a file of its own and all on a sheet with labels.

mod axis;
mod sheet;

use std::path::{Path, PathBuf};

use diffusion_engine::{
    Catalog, Error as RunError, PictureFormat, Raster, Size, check_writable, read_infotext, read_picture,
};
use forge::{Config, Forge, Outputs, Pattern, Pictures, Seed, Threads, check_apart, limit_kept, memory::Bytes};

use self::{
    axis::{Axis, MOST, apart, wrong},
    sheet::Sheet,
};
use super::{
    args::{GridArgs, Txt2ImgArgs},
    txt2img::{Asked, Drawing, random_seed},
};
use crate::{error::Result, signals::Interrupt};

/// The longest side of a sheet, as WebP has it.
const LONGEST_SIDE: usize = PictureFormat::Webp.longest_side();

pub(super) fn run(registry: &Catalog, args: &GridArgs) -> Result<()> {
    let interrupt = Interrupt::awaited();
    let run = args.as_txt2img();
    let mut config = run.config()?;
    let mut notes = run.override_keys(&mut config, registry)?;
    if config.sampling.seed == Seed::Random {
        // All have the same noise.
        config.sampling.seed = Seed::Fixed(random_seed());
    }
    let grid = Grid::of(args, &run, &config)?;
    // Pictures that all cells start from are read once, as long as one of them is held.
    let (cells, _first) = grid.cells(registry, &run, &config)?;
    let sheet = grid.sheet(&cells)?;
    let beside_sheet = config.room_for(&grid.output, Bytes(sheet.bytes(grid.format)))?;
    let threads = Threads::start(config.device.threads);
    notes.extend(threads.note());
    grid.check_models(registry, &run, &cells, &threads)?;
    let mut drawing = Drawing::begin(&cells[0].config, threads.clone(), notes, run.json, interrupt.cancel())?;
    let mut before = &cells[0].config;
    for (index, cell) in cells.iter().enumerate() {
        if grid.needs_other_model(before, &cell.config) {
            drawing.change_model(&cell.config, threads.clone())?;
        }
        drawing.draw(cell.asked(registry, &run)?, &cell.config, index + 1 == cells.len())?;
        before = &cell.config;
    }
    let text = read_infotext(&cells[0].config.image.output).map(|text| grid.told(text))?;
    limit_kept(beside_sheet);
    // A model may take coarser sides than were asked for.
    let size = cells[0].drawn()?.size();
    let sheet = Sheet { cell: [size.width, size.height], ..sheet };
    let pictures = cells.iter().map(|cell| cell.picture(size));
    let drawn = sheet.drawn(pictures)?.ok_or_else(|| too_large(&sheet))?;
    let image = forge::Image { infotext: text, ..drawn };
    drawing.save_sheet(&image, &grid.output, grid.format, cells[0].seed)?;
    drawing.finish()
}

/// A picture of a grid. What it is drawn from is read when its turn comes: a thousand of them may have a picture each.
struct Cell {
    config: Config,
    size: Size,
    seed: u64,
    places: Vec<(&'static str, PathBuf)>,
}

impl Cell {
    fn of(registry: &Catalog, run: &Txt2ImgArgs, config: Config) -> Result<(Self, Asked)> {
        let asked = asked(registry, run, &config)?;
        let (size, seed) = asked.first().unwrap_or((Size { width: 0, height: 0 }, 0));
        Ok((Self { places: asked.outputs().places().to_vec(), config, size, seed }, asked))
    }

    fn asked(&self, registry: &Catalog, run: &Txt2ImgArgs) -> Result<Asked> {
        asked(registry, run, &self.config)
    }

    /// What was drawn of it.
    fn drawn(&self) -> Result<Raster<3>> {
        Ok(read_picture(&self.config.image.output)?.over([255; 3]))
    }

    /// The same, which must be of a size.
    fn picture(&self, size: Size) -> Result<Raster<3>> {
        let picture = self.drawn()?;
        if picture.size() == size {
            return Ok(picture);
        }
        let source =
            std::io::Error::other(format!("expected the size of the grid's first, {size}, found {}", picture.size()));
        Err(RunError::Pixels { path: self.config.image.output.clone(), source }.into())
    }
}

fn asked(registry: &Catalog, run: &Txt2ImgArgs, config: &Config) -> Result<Asked> {
    Asked::to(registry, run, config, |request| {
        let pictures = Pattern::new(&config.image.output, config.quality(), &[request.seed])?;
        Ok(Outputs::to(Pictures::Files(pictures), config, request, None)?)
    })
}

/// What is asked for.
struct Grid {
    /// Those of columns, of rows and of tables.
    axes: [Option<Axis>; 3],
    /// Where the sheet goes.
    output: PathBuf,
    format: PictureFormat,
}

impl Grid {
    fn of(args: &GridArgs, run: &Txt2ImgArgs, config: &Config) -> Result<Self> {
        let axis = |flag, text: Option<&String>| text.map(|text| Axis::read(flag, text, config)).transpose();
        let axes = [axis("--x", Some(&args.x))?, axis("--y", args.y.as_ref())?, axis("--z", args.z.as_ref())?];
        apart(&axes)?;
        let count = axes.iter().flatten().fold(1usize, |count, axis| count.saturating_mul(axis.values.len()));
        if count > MOST {
            return Err(wrong("--x", &format!("{MOST} pictures at most"), count.to_string()));
        }
        if config.image.batch * config.image.batches != 1 {
            return Err(wrong("image.batch", "one picture in each place of the grid", "several".into()));
        }
        if run.dump_file()?.is_some() {
            return Err(wrong("--dump", "nothing, as there are several runs", "a file".into()));
        }
        let output = config.image.output.clone();
        let text = output.to_string_lossy().into_owned();
        if text.contains(['{', '}']) || output == Path::new(forge::STANDARD_OUTPUT) {
            return Err(wrong(
                "image.output",
                "a file's name without braces, to which others are added",
                format!("`{text}`"),
            ));
        }
        let Some(format) = PictureFormat::of(&output, config.quality()) else {
            let expected = format!("a name that ends in {}", PictureFormat::ENDINGS);
            return Err(wrong("image.output", &expected, format!("`{text}`")));
        };
        Ok(Self { axes, output, format })
    }

    /// All pictures, of which nothing speaks against any that can be told without the model: by tables, rows and columns; and what is asked for
    /// in the first.
    fn cells(&self, registry: &Catalog, run: &Txt2ImgArgs, config: &Config) -> Result<(Vec<Cell>, Option<Asked>)> {
        let [columns, rows, tables] = [0, 1, 2].map(|axis| self.values(axis));
        let (mut cells, mut first) = (Vec::new(), None);
        for (z, table) in tables.iter().enumerate() {
            for (y, row) in rows.iter().enumerate() {
                for (x, column) in columns.iter().enumerate() {
                    let mut config = config.clone();
                    for (axis, value) in self.axes.iter().zip([column, row, table]) {
                        if let (Some(axis), Some(value)) = (axis, value) {
                            axis.set(&mut config, value, &axis.values[0])?;
                        }
                    }
                    config.image.output = self.place([x, y, z]);
                    let (cell, asked) = Cell::of(registry, run, config)?;
                    first.get_or_insert(asked);
                    cells.push(cell);
                }
            }
        }
        let path = self.output.clone();
        check_writable(&path).map_err(|source| forge::Error::Write { path: path.clone(), source })?;
        // What one of them reads, another may not write.
        let runs = cells.iter().map(|cell| (&cell.config, &*cell.places));
        check_apart(runs, &[("--output", path)], &run.other_files()?)?;
        Ok((cells, first))
    }

    /// The file of a picture: the sheet's name with the places on the axes behind it, from 1.
    fn place(&self, at: [usize; 3]) -> PathBuf {
        let numbers = self.axes.iter().zip(at).filter(|(axis, _)| axis.is_some()).map(|(_, at)| format!("-{}", at + 1));
        let part =
            |part: Option<&std::ffi::OsStr>| part.map_or_else(String::new, |part| part.to_string_lossy().into_owned());
        let stem = part(self.output.file_stem());
        self.output.with_file_name(format!("{stem}{}.{}", numbers.collect::<String>(), part(self.output.extension())))
    }

    /// The values along an axis; one of nothing where there is no such axis.
    fn values(&self, axis: usize) -> Vec<Option<String>> {
        match &self.axes[axis] {
            Some(axis) => axis.values.iter().cloned().map(Some).collect(),
            None => vec![None],
        }
    }

    fn labels(&self, axis: usize) -> Vec<String> {
        match &self.axes[axis] {
            Some(axis) => axis.values.iter().map(|value| axis.label(value)).collect(),
            None => vec![String::new()],
        }
    }

    /// What the pictures stand on, which must be of one size.
    fn sheet(&self, cells: &[Cell]) -> Result<Sheet> {
        let size = cells.first().map_or(Size { width: 0, height: 0 }, |cell| cell.size);
        if let Some(other) = cells.iter().map(|cell| cell.size).find(|other| *other != size) {
            return Err(wrong("--x", "pictures of one size on a sheet", format!("{size} and {other}")));
        }
        let Size { width, height } = size;
        let sheet =
            Sheet { columns: self.labels(0), rows: self.labels(1), tables: self.labels(2), cell: [width, height] };
        match sheet.size() {
            Some(sides) if sides.iter().all(|side| *side <= LONGEST_SIDE) => Ok(sheet),
            Some(_) | None => Err(too_large(&sheet)),
        }
    }

    /// Finds out whether each of several models can be opened, and has room for the first picture that it draws, before any draws.
    fn check_models(&self, registry: &Catalog, run: &Txt2ImgArgs, cells: &[Cell], threads: &Threads) -> Result<()> {
        let mut known: Vec<&Cell> = Vec::new();
        for cell in cells.iter().filter(|_| self.axes.iter().flatten().any(Axis::changes_model)) {
            if known.iter().all(|known| self.needs_other_model(&known.config, &cell.config)) {
                let forge = Forge::load_on(&cell.config, threads.clone())?;
                cell.asked(registry, run)?.plan(&forge)?;
                known.push(cell);
            }
        }
        Ok(())
    }

    fn needs_other_model(&self, before: &Config, now: &Config) -> bool {
        self.axes.iter().flatten().any(Axis::changes_model)
            && (before.model != now.model
                || before.device != now.device
                || before.hires.checkpoint != now.hires.checkpoint
                || before.refiner.checkpoint != now.refiner.checkpoint)
    }

    /// The first picture's text with what the axes are, under A1111's names.
    fn told(&self, text: String) -> String {
        let names = ["X", "Y", "Z"].into_iter().zip(&self.axes);
        let told = names.filter_map(|(name, axis)| {
            let axis = axis.as_ref()?;
            let values = axis.values.join(", ").replace('"', "\\\"");
            Some(format!(", {name} Type: {}, {name} Values: \"{values}\"", axis.name))
        });
        format!("{text}, Script: X/Y/Z plot{}", told.collect::<String>())
    }
}

fn too_large(sheet: &Sheet) -> crate::error::Error {
    let found = sheet.size().map_or_else(|| "more".to_owned(), |[width, height]| format!("{width} × {height}"));
    wrong("--x", &format!("fewer or smaller pictures: a sheet with sides of {LONGEST_SIDE} at most"), found)
}
