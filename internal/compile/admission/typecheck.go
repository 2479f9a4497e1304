package admission

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	admv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/version"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	celopenapi "k8s.io/apiserver/pkg/cel/openapi"
	openapi "k8s.io/kube-openapi/pkg/validation/spec"
)

// judged is a kind that a subject covers, with where it keeps its pod.
type judged struct {
	gvk    schema.GroupVersionKind
	holder string
	goType reflect.Type
}

var kinds = map[Subject][]judged{
	OnPods: {
		{corev1.SchemeGroupVersion.WithKind("Pod"), "object", reflect.TypeFor[corev1.Pod]()},
		{corev1.SchemeGroupVersion.WithKind("PodTemplate"), "object.template", reflect.TypeFor[corev1.PodTemplate]()},
		{corev1.SchemeGroupVersion.WithKind("ReplicationController"), "object.spec.template", reflect.TypeFor[corev1.ReplicationController]()},
		{appsv1.SchemeGroupVersion.WithKind("Deployment"), "object.spec.template", reflect.TypeFor[appsv1.Deployment]()},
		{appsv1.SchemeGroupVersion.WithKind("StatefulSet"), "object.spec.template", reflect.TypeFor[appsv1.StatefulSet]()},
		{appsv1.SchemeGroupVersion.WithKind("DaemonSet"), "object.spec.template", reflect.TypeFor[appsv1.DaemonSet]()},
		{appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), "object.spec.template", reflect.TypeFor[appsv1.ReplicaSet]()},
		{batchv1.SchemeGroupVersion.WithKind("Job"), "object.spec.template", reflect.TypeFor[batchv1.Job]()},
		{batchv1.SchemeGroupVersion.WithKind("CronJob"), "object.spec.jobTemplate.spec.template", reflect.TypeFor[batchv1.CronJob]()},
	},
	OnNamespaces: {{corev1.SchemeGroupVersion.WithKind("Namespace"), "", reflect.TypeFor[corev1.Namespace]()}},
	OnBindings:   {{corev1.SchemeGroupVersion.WithKind("Binding"), "", reflect.TypeFor[corev1.Binding]()}},
	OnSecrets:    {{corev1.SchemeGroupVersion.WithKind("Secret"), "", reflect.TypeFor[corev1.Secret]()}},
	OnPolicies: {
		{admv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicy"), "", reflect.TypeFor[admv1.ValidatingAdmissionPolicy]()},
		{admv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicyBinding"), "", reflect.TypeFor[admv1.ValidatingAdmissionPolicyBinding]()},
	},
}

func firstKind(s Subject) judged { return kinds[s][0] }

// typeCheck compiles the policy for one kind with that kind's real types, so that a mistyped field is found here. An API
// server accepts such a policy and then fails, or worse, at the first request. The API server's own type checker leaves
// variables out; this one gives each variable the type of its expression.
func (pol Policy) typeCheck(k judged) error {
	object := common.SchemaDeclType(&celopenapi.Schema{Schema: schemaOf(k.goType, 0)}, true).MaybeAssignTypeName(k.gvk.Kind)
	request := plugincel.BuildRequestType()
	set, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		DeclTypes:         []*apiservercel.DeclType{object, request},
		EnvOptions: []cel.EnvOption{
			cel.Variable("object", object.CelType()), cel.Variable("oldObject", object.CelType()),
			cel.Variable("request", request.CelType()), cel.Variable("authorizer", library.AuthorizerType),
		},
	})
	if err != nil {
		return fmt.Errorf("policy %s: CEL environment: %w", pol.ID, err)
	}
	env := set.NewExpressionsEnv()
	vars := pol.Variables
	if pol.Subject == OnPods {
		vars = append([]Variable{{"holder", k.holder}, {"pod", k.holder + ".spec"}}, append(parts[:len(parts):len(parts)], vars...)...)
	}
	vars = append(vars[:len(vars):len(vars)],
		Variable{"offenders", pol.Offenders},
		Variable{"decision", pol.Decision()},
		Variable{"message", quote(pol.Message) + " + variables.offenders.join(', ')"})
	for _, v := range vars {
		ast, issues := env.Compile(v.Expression)
		if issues.Err() != nil {
			return fmt.Errorf("policy %s does not type-check for %s, variable %s: %w", pol.ID, k.gvk.Kind, v.Name, issues.Err())
		}
		// A qualified name lets the checker resolve variables.NAME without a type that holds them all.
		if env, err = env.Extend(cel.Variable("variables."+v.Name, ast.OutputType())); err != nil {
			return fmt.Errorf("policy %s, variable %s: %w", pol.ID, v.Name, err)
		}
	}
	return nil
}

// TypeCheck checks every policy against every kind that it judges.
func TypeCheck(pols []Policy) error {
	for _, pol := range pols {
		for _, k := range kinds[pol.Subject] {
			if err := pol.typeCheck(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// schemaOf mirrors how Kubernetes' own OpenAPI describes the types, from the Go types, so that checking needs neither a
// cluster nor a copy of Kubernetes' OpenAPI document. Recursion ends at JSONSchemaProps-like depths that
// no policy reads.
func schemaOf(t reflect.Type, depth int) *openapi.Schema {
	s := &openapi.Schema{}
	if depth > 14 {
		s.Extensions = openapi.Extensions{"x-kubernetes-preserve-unknown-fields": true}
		s.Type = openapi.StringOrArray{"object"}
		return s
	}
	typed := func(name, format string) *openapi.Schema {
		s.Type, s.Format = openapi.StringOrArray{name}, format
		return s
	}
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return typed("string", "quantity")
	case reflect.TypeFor[intstr.IntOrString]():
		s.Extensions = openapi.Extensions{"x-kubernetes-int-or-string": true}
		return s
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime](), reflect.TypeFor[time.Time]():
		return typed("string", "date-time")
	case reflect.TypeFor[metav1.FieldsV1]():
		return typed("object", "")
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), depth)
	case reflect.String:
		return typed("string", "")
	case reflect.Bool:
		return typed("boolean", "")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint32, reflect.Uint64:
		return typed("integer", "int64")
	case reflect.Float32, reflect.Float64:
		return typed("number", "double")
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return typed("string", "byte")
		}
		typed("array", "")
		s.Items = &openapi.SchemaOrArray{Schema: schemaOf(t.Elem(), depth+1)}
	case reflect.Map:
		typed("object", "")
		s.AdditionalProperties = &openapi.SchemaOrBool{Allows: true, Schema: schemaOf(t.Elem(), depth+1)}
	case reflect.Struct:
		typed("object", "")
		s.Properties = map[string]openapi.Schema{}
		properties(t, depth, s.Properties)
	}
	return s
}

func properties(t reflect.Type, depth int, into map[string]openapi.Schema) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && (name == "" || strings.Contains(opts, "inline")) {
			properties(f.Type, depth, into)
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		into[name] = *schemaOf(f.Type, depth+1)
	}
}
