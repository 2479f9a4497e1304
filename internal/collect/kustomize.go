package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/source"
)

func isKustomization(name string) bool {
	return slices.Contains(konfig.RecognizedKustomizationFileNames(), name)
}

// kustomizationFile gives the path of a folder's kustomization, or "".
func kustomizationFile(dir string) string {
	for _, n := range konfig.RecognizedKustomizationFileNames() {
		p := filepath.Join(dir, n)
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return p
		}
	}
	return ""
}

// reference is a path that a kustomization names.
type reference struct {
	path string
	at   source.Pos
	// field is where it stands: "resources", "patches[].path".
	field string
	// folder is true where kustomize takes a folder there.
	folder bool
	// config is true where the file configures a plugin, whose own fields may name more paths.
	config bool
}

// bases are the fields of a kustomization that may name other kustomizations.
var bases = map[string]bool{"resources": true, "bases": true, "components": true, "generators": true, "transformers": true, "validators": true}

// plugins are the fields that name plugin configurations, as files or inline.
var plugins = map[string]bool{"generators": true, "transformers": true, "validators": true}

// references lists every path that kustomize would open for a kustomization. The error is an *source.Error.
func references(file string, limits source.Limits) ([]reference, *yaml.Node, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, nil, &source.Error{Pos: source.Pos{File: file}, Msg: "cannot read it: " + reason(err).Error()}
	}
	if info.Size() > int64(limits.Document) {
		return nil, nil, tooLargeError(file, 1, limits.Document)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, &source.Error{Pos: source.Pos{File: file}, Msg: "cannot read it: " + reason(err).Error()}
	}
	docs := source.Split(file, b)
	if len(docs) != 1 {
		return nil, nil, &source.Error{Pos: source.Pos{File: file}, Msg: fmt.Sprintf("a kustomization is one document, found %d", len(docs))}
	}
	n, err := docs[0].Parse(limits)
	if err != nil {
		return nil, nil, err
	}
	if n.Kind != yaml.MappingNode {
		return nil, nil, &source.Error{Pos: source.NodePos(file, n), Msg: "a kustomization is a mapping, found " + source.Describe(n)}
	}
	var out []reference
	add := func(n *yaml.Node, field string, folder, config bool) {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n.Kind == yaml.ScalarNode {
			out = append(out, reference{path: n.Value, at: source.NodePos(file, n), field: field, folder: folder, config: config})
		}
	}
	each := func(n *yaml.Node, f func(*yaml.Node)) {
		if n != nil && n.Kind == yaml.SequenceNode {
			for _, x := range n.Content {
				if x.Kind == yaml.AliasNode {
					x = x.Alias
				}
				f(x)
			}
		}
	}
	for _, field := range []string{"resources", "bases", "components", "crds", "configurations", "generators", "transformers", "validators", "patchesStrategicMerge"} {
		each(value(n, field), func(x *yaml.Node) {
			// Patches and plugin configurations may be written inline.
			if (plugins[field] || field == "patchesStrategicMerge") && strings.Contains(strings.TrimSpace(x.Value), "\n") {
				if plugins[field] {
					out = append(out, remoteIn(file, x, field)...)
				}
				return
			}
			add(x, field, bases[field], plugins[field])
		})
	}
	for _, field := range []string{"patches", "patchesJson6902", "replacements"} {
		each(value(n, field), func(x *yaml.Node) {
			if p := value(x, "path"); p != nil {
				add(p, field+"[].path", false, false)
			}
		})
	}
	if o := value(n, "openapi"); o != nil {
		if p := value(o, "path"); p != nil {
			add(p, "openapi.path", false, false)
		}
	}
	for _, field := range []string{"configMapGenerator", "secretGenerator"} {
		each(value(n, field), func(x *yaml.Node) {
			if p := value(x, "env"); p != nil {
				add(p, field+"[].env", false, false)
			}
			for _, list := range []string{"files", "envs"} {
				each(value(x, list), func(y *yaml.Node) {
					c := *y
					if _, p, ok := strings.Cut(y.Value, "="); ok && list == "files" {
						c.Value = p
					}
					add(&c, field+"[]."+list, false, false)
				})
			}
		})
	}
	return out, n, nil
}

var remoteScheme = regexp.MustCompile(`(?i)\b(https?|ssh|git|file)://|\bgit::|\bgit@|\bgithub\.com[/:]`)

// remoteIn finds what looks like a remote path in a plugin's configuration. It may find too much, such as a URL in a
// label; then the kustomization is not judged, which is said.
func remoteIn(file string, n *yaml.Node, field string) []reference {
	var out []reference
	for i, l := range strings.Split(n.Value, "\n") {
		if remoteScheme.MatchString(l) {
			at := source.NodePos(file, n)
			at.Line += i
			if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
				at.Line++ // the text begins below its indicator
			}
			out = append(out, reference{path: strings.TrimSpace(l), at: at, field: field})
		}
	}
	return out
}

// remote reports whether kustomize would fetch a path rather than open it.
func remote(p string) bool {
	return remoteScheme.MatchString(p) || strings.ContainsAny(p, "?@") || strings.Contains(p, "//")
}

// vet refuses what must not run: anything remote, plugins that execute something, and Helm, in this kustomization and
// all that it uses. It also says which file or folder does not exist, by line.
func vet(file string, limits source.Limits, seen map[string]bool) []*source.Error {
	real := realPath(file)
	if seen[real] {
		return nil
	}
	seen[real] = true
	refs, n, err := references(file, limits)
	if err != nil {
		var se *source.Error
		if errors.As(err, &se) {
			return []*source.Error{se}
		}
		return []*source.Error{{Pos: source.Pos{File: file}, Msg: err.Error()}}
	}
	var out []*source.Error
	for _, field := range []string{"helmCharts", "helmChartInflationGenerator"} {
		if v := value(n, field); v != nil {
			out = append(out, &source.Error{Pos: source.NodePos(file, v), Msg: field + " runs helm and downloads charts; this was not done", Hint: "judge the output of `kustomize build --enable-helm`, or the chart's own folder"})
		}
	}
	dir := filepath.Dir(file)
	for _, r := range refs {
		at := r.at
		if remote(r.path) {
			out = append(out, &source.Error{Pos: at, Msg: fmt.Sprintf("%s names the remote %q, which is not fetched", r.field, r.path), Hint: "vendor it into a folder, or judge the output of `kustomize build`"})
			continue
		}
		p := r.path
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		info, err := os.Stat(p)
		if err != nil {
			if strings.ContainsAny(p, "\n") {
				continue
			}
			out = append(out, &source.Error{Pos: at, Msg: fmt.Sprintf("%s names %q: %v", r.field, r.path, reason(err)), Hint: strings.TrimPrefix(near(p), "; ")})
			continue
		}
		switch {
		case info.IsDir() && r.folder:
			if k := kustomizationFile(p); k != "" {
				out = append(out, vet(k, limits, seen)...)
			} else {
				out = append(out, &source.Error{Pos: at, Msg: fmt.Sprintf("%s names the folder %q, which has no kustomization.yaml", r.field, r.path)})
			}
		case r.config && info.Mode().IsRegular() && info.Size() <= int64(limits.Document):
			if b, err := os.ReadFile(p); err == nil {
				for _, x := range remoteIn(p, &yaml.Node{Kind: yaml.ScalarNode, Value: string(b), Line: 1}, r.field) {
					out = append(out, &source.Error{Pos: x.at, Msg: "this plugin configuration names something remote, which is not fetched", Hint: "vendor it into a file"})
				}
			}
		}
	}
	return out
}

// usedByKustomizations lists the real paths below dir that some kustomization there names: they are judged as part of
// that kustomization, not by themselves.
func usedByKustomizations(dir string, opts Options) map[string]bool {
	used := map[string]bool{}
	_ = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // the walk itself reports it
		}
		if e.IsDir() && p != dir && strings.HasPrefix(e.Name(), ".") {
			return filepath.SkipDir
		}
		if e.IsDir() || !isKustomization(e.Name()) {
			return nil
		}
		refs, _, err := references(p, opts.Limits)
		if err != nil {
			return nil //nolint:nilerr // building it reports it
		}
		for _, r := range refs {
			if remote(r.path) {
				continue
			}
			t := r.path
			if !filepath.IsAbs(t) {
				t = filepath.Join(filepath.Dir(p), t)
			}
			used[realPath(t)] = true
		}
		return nil
	})
	return used
}

// realPath is absolute and free of links; of a path that does not exist, only absolute.
func realPath(p string) string {
	if abs, err := filepath.Abs(p); err == nil {
		p = abs
	}
	if real, err := filepath.EvalSymlinks(p); err == nil {
		p = real
	}
	return p
}

// kyaml keeps the OpenAPI schema of the running build in globals.
var kustomizeLock sync.Mutex

// kustomization builds a folder's kustomization in this process: no plugins, no Helm, no remote bases, no files outside
// the folder of the kustomization that names them.
func (w *walker) kustomization(ctx context.Context, dir string) {
	file := kustomizationFile(dir)
	if file == "" {
		w.out.refuse(notJudged("kustomization "+dir, source.Pos{File: dir}, "its kustomization is not a regular file"))
		return
	}
	what := "kustomization " + dir
	if w.built == nil {
		w.built = map[string]bool{}
	}
	seen := map[string]bool{} // of this build alone: a base that another build could not use must be refused here too
	problems := vet(file, w.opts.Limits, seen)
	for f := range seen {
		w.built[f] = true
	}
	if len(problems) > 0 {
		var n []finding.NotJudged
		for _, p := range problems {
			n = append(n, refusal(what, p))
		}
		w.out.refuse(n...)
		return
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		w.out.refuse(notJudged(what, source.Pos{File: file}, "cannot read it: "+reason(err).Error()))
		return
	}
	_, root, _ := references(file, w.opts.Limits)
	if root != nil && text1(value(root, "kind")) == types.ComponentKind {
		w.out.refuse(notJudged(what, source.Pos{File: file}, "a component has no objects of its own; it is judged in the kustomizations that use it"))
		return
	}
	disk := &originFS{FileSystem: filesys.MakeFsOnDisk(), root: file, raw: raw}
	disk.add = root != nil && value(root, "buildMetadata") == nil && root.Style&yaml.FlowStyle == 0

	ctx, cancel := context.WithTimeout(ctx, w.opts.Timeout)
	defer cancel()
	type done struct {
		m   resmap.ResMap
		err error
	}
	c := make(chan done, 1)
	go func() {
		kustomizeLock.Lock()
		defer kustomizeLock.Unlock()
		defer func() {
			if r := recover(); r != nil {
				c <- done{err: fmt.Errorf("kustomize broke down: %v", r)}
			}
		}()
		m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, dir)
		c <- done{m, err}
	}()
	var m resmap.ResMap
	select {
	case <-ctx.Done():
		w.out.refuse(notJudged(what, source.Pos{File: file}, fmt.Sprintf("it did not build within %v", w.opts.Timeout)))
		return
	case d := <-c:
		if d.err != nil {
			w.out.refuse(notJudged(what, source.Pos{File: file}, "it does not build: "+strings.Join(strings.Fields(d.err.Error()), " ")))
			return
		}
		m = d.m
	}
	places := &originals{limits: w.opts.Limits, files: map[string][]original{}}
	for _, r := range m.Resources() {
		at := source.Pos{File: file, Line: 1}
		if o, err := r.GetOrigin(); err == nil && o != nil {
			if o.Path != "" {
				at.File = filepath.Join(dir, o.Path)
			} else if o.ConfiguredIn != "" {
				at.File = filepath.Join(dir, o.ConfiguredIn)
			}
		}
		if disk.add {
			if err := r.SetOrigin(nil); err != nil {
				w.out.refuse(notJudged(what, at, err.Error()))
				continue
			}
			if len(r.GetAnnotations()) == 0 {
				_ = r.SetAnnotations(nil)
			}
		}
		b, err := r.AsYAML()
		if err != nil {
			w.out.refuse(notJudged(what, at, "the built "+r.GetKind()+" "+r.GetName()+" cannot be written: "+err.Error()))
			continue
		}
		at, tree := places.find(at, r.GetKind(), r.GetName())
		w.out.decode(text{file: at.File, line: 1, data: b, lines: func(int) int { return at.Line }, place: func(o *cluster.Object) {
			o.At, o.Tree = at, tree
		}})
	}
}

// originFS has kustomize note where each object came from, without touching the user's kustomization.
type originFS struct {
	filesys.FileSystem
	root string
	raw  []byte
	add  bool
}

func (f *originFS) ReadFile(p string) ([]byte, error) {
	if f.add && filepath.Base(p) == filepath.Base(f.root) {
		if a, err := os.Stat(p); err == nil {
			if b, err := os.Stat(f.root); err == nil && os.SameFile(a, b) {
				return append(bytes.Clone(f.raw), "\nbuildMetadata: ["+types.OriginAnnotations+"]\n"...), nil
			}
		}
	}
	return f.FileSystem.ReadFile(p)
}

// originals finds the documents that a kustomization was built from.
type originals struct {
	limits source.Limits
	files  map[string][]original
}

type original struct {
	kind, name string
	at         source.Pos
	tree       source.Tree
}

// find gives the place and the fields' lines of the document that an object came from. Kustomize adds prefixes, suffixes
// and hashes to names, so the longest name that is part of the object's wins.
func (o *originals) find(at source.Pos, kind, name string) (source.Pos, source.Tree) {
	docs, done := o.files[at.File]
	if !done {
		if info, err := os.Stat(at.File); err == nil && info.Size() <= int64(o.limits.Document) && !isKustomization(filepath.Base(at.File)) {
			if b, err := os.ReadFile(at.File); err == nil {
				for _, d := range source.Split(at.File, b) {
					n, err := d.Parse(o.limits)
					if err != nil {
						continue
					}
					_, k := typeOf(n)
					x := original{kind: k, at: source.Pos{File: at.File, Line: n.Line}, tree: source.NewTree(at.File, n)}
					if m := value(n, "metadata"); m != nil {
						x.name = text1(value(m, "name"))
					}
					docs = append(docs, x)
				}
			}
		}
		o.files[at.File] = docs
	}
	best := -1
	for i, d := range docs {
		if d.kind == kind && strings.Contains(name, d.name) && (best < 0 || len(d.name) > len(docs[best].name)) {
			best = i
		}
	}
	if best < 0 {
		return at, source.Tree{}
	}
	return docs[best].at, docs[best].tree
}
